// Pydantic's JSON Schema, as a form needs it.
import { Validator } from "@cfworker/json-schema";
import type { RJSFSchema, UiSchema, ValidatorType } from "@rjsf/utils";
import { words } from "../parts/words";

/** Stands in a form where a field is left to the service; never sent. */
const DEFAULT = "(default)";

type Schema = Record<string, unknown>;
type Options = Schema[];
type Definitions = Record<string, Schema>;

/** Choices get a line for "left to the service"; bare names of choices, which stand for objects,
 * and `null` beside plain values are left out: an empty field says the same. */
export function formSchema(schema: Schema): RJSFSchema {
  // The validator keeps absolute references in the parts: they must not begin with the whole's name.
  const { $id: _id, ...nameless } = schema;
  return simpler(nameless, true, schema.$defs as Definitions) as RJSFSchema;
}

function simpler(value: unknown, required: boolean, known: Definitions): unknown {
  if (typeof value !== "object" || value === null) return value;
  const schema = value as Schema;
  const options = flat(schema);
  if (options) return choice(schema, options, required, known);
  const { default: told, ...rest } = schema;
  const made: Schema = {};
  const needed = (schema.required as string[] | undefined) ?? [];
  for (const [name, part] of Object.entries(rest)) {
    if (name === "properties") {
      made.properties = Object.fromEntries(
        Object.entries(part as Schema).map(([field, of]) => [
          field,
          simpler(of, needed.includes(field) || field === "kind", known),
        ]),
      );
    } else if (name === "$defs") {
      made.$defs = Object.fromEntries(
        Object.entries(part as Schema).map(([field, of]) => [field, simpler(of, true, known)]),
      );
    } else made[name] = name === "items" ? simpler(part, true, known) : part;
  }
  // Several of a list: boxes to tick, each once.
  if ("enum" in ((made.items ?? {}) as Schema)) made.uniqueItems = true;
  if (told !== undefined && told !== null && typeof told !== "object") {
    made.description = [schema.description, `By default ${String(told)}.`].filter(Boolean).join(" ");
  }
  return made;
}

/** The options of a choice, those of nested choices among them. */
function flat(schema: Schema): Options | null {
  const options = (schema.anyOf ?? schema.oneOf) as Options | undefined;
  return options ? options.flatMap((each) => flat(each) ?? [each]) : null;
}

function choice(schema: Schema, options: Options, required: boolean, known: Definitions): Schema {
  const { title, description } = schema;
  const objects = options.filter((each) => "$ref" in each || each.type === "object");
  const isNull = (each: Schema) => each.type === "null";
  const about = { ...(title ? { title } : {}), ...(description ? { description } : {}) };
  if (objects.length === 0) {
    const { const: only, ...plain } = options.find((each) => !isNull(each)) as Schema;
    // A constant is filled in by the form; here it is one of two answers.
    const one = only === undefined ? plain : { ...plain, enum: [only] };
    return { ...(simpler(one, true, known) as Schema), ...about };
  }
  const left = { title: "left to the service", const: DEFAULT, type: "string" };
  const none = { title: "none", type: "null" };
  return {
    ...about,
    oneOf: [...(required ? [] : [left]), ...(options.some(isNull) ? [none] : []), ...objects.map(named)],
  };

  function named(option: Schema): Schema {
    const of = known[String(option.$ref).split("/").at(-1) as string] ?? option;
    const kind = (of.properties as Definitions | undefined)?.kind?.const ?? of.title;
    return { ...option, title: words(String(kind)) };
  }
}

/** What is sent: no stand-ins, no empty lists or objects that the form made by itself. */
export function withoutDefaults(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDefaults);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value)
    .map(([name, each]) => [name, withoutDefaults(each)] as const)
    .filter(([, each]) => each !== DEFAULT && each !== undefined && !isEmpty(each));
  return Object.fromEntries(kept);
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

const BOXES = { "ui:widget": "checkboxes", "ui:options": { inline: true } };
export const LOOKS: UiSchema = {
  "ui:submitButtonOptions": { norender: true },
  exports: BOXES,
  evaluate: { metrics: BOXES, latency: { runtimes: BOXES, threads: BOXES } },
};

/** Tells which option of a choice a value is. The service itself checks specs, so the form does not;
 * and the usual validator makes functions from text, which the page's policy forbids. */
export const validator: ValidatorType = {
  validateFormData: () => ({ errors: [], errorSchema: {} }),
  rawValidation: () => ({ errors: [] }),
  isValid: (schema, value, root) => {
    if (value === undefined) return false; // Which would pass for null.
    // Parts that the form names for itself would look for definitions within themselves.
    const { $id: _id, ...part } = schema as Schema;
    const whole = { ...part, $defs: (root as Schema).$defs } as never;
    return new Validator(whole, "2020-12").validate(value).valid;
  },
};

export default validator;
