// Pydantic's JSON Schema, as a form needs it.
import { Validator } from "@cfworker/json-schema";
import type { RJSFSchema, ValidatorType } from "@rjsf/utils";

/** Stands in a form where a field is left to the service; never sent. */
const DEFAULT = "(default)";

type Schema = Record<string, unknown>;
type Options = Schema[];

/** Choices get a line for "left to the service"; bare names of choices, which stand for objects,
 * and `null` beside plain values are left out: an empty field says the same. */
export function formSchema(schema: Schema): RJSFSchema {
  return simpler(schema, true) as RJSFSchema;
}

function simpler(value: unknown, required: boolean): unknown {
  if (Array.isArray(value)) return value.map((each) => simpler(each, true));
  if (typeof value !== "object" || value === null) return value;
  const schema = value as Schema;
  const options = flat(schema);
  if (options) return choice(schema, options, required);
  const { default: told, ...rest } = schema;
  const made: Schema = {};
  const needed = (schema.required as string[] | undefined) ?? [];
  for (const [name, part] of Object.entries(rest)) {
    if (name === "properties") {
      made.properties = Object.fromEntries(
        Object.entries(part as Schema).map(([field, of]) => [
          field,
          simpler(of, needed.includes(field) || field === "kind"),
        ]),
      );
    } else if (name === "$defs") {
      made.$defs = Object.fromEntries(
        Object.entries(part as Schema).map(([field, of]) => [field, simpler(of, true)]),
      );
    } else made[name] = name === "items" ? simpler(part, true) : part;
  }
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

function choice(schema: Schema, options: Options, required: boolean): Schema {
  const { title, description } = schema;
  const objects = options.filter((each) => "$ref" in each || each.type === "object");
  const isNull = (each: Schema) => each.type === "null";
  const about = { ...(title ? { title } : {}), ...(description ? { description } : {}) };
  if (objects.length === 0) {
    const plain = options.find((each) => !isNull(each)) as Schema;
    return { ...(simpler(plain, true) as Schema), ...about };
  }
  const left = { title: "left to the service", const: DEFAULT, type: "string" };
  const none = { title: "none", type: "null" };
  return {
    ...about,
    oneOf: [...(required ? [] : [left]), ...(options.some(isNull) ? [none] : []), ...objects],
  };
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

/** Tells which option of a choice a value is. The service itself checks specs, so the form does not;
 * and the usual validator makes functions from text, which the page's policy forbids. */
export const validator: ValidatorType = {
  validateFormData: () => ({ errors: [], errorSchema: {} }),
  rawValidation: () => ({ errors: [] }),
  isValid: (schema, value, root) => {
    const whole = { ...(schema as Schema), $defs: (root as Schema).$defs } as never;
    return new Validator(whole, "2020-12").validate(value).valid;
  },
};

export default validator;
