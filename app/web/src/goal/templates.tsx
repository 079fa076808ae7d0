import type {
  FieldTemplateProps,
  IconButtonProps,
  ObjectFieldTemplateProps,
  TemplatesType,
} from "@rjsf/utils";
import { words } from "../parts/words";

/** A field with its name, its hint and what the service says of it. */
function Field(props: FieldTemplateProps) {
  const { id, schema, children, hidden, rawErrors } = props;
  const label = capital(words(props.label));
  if (hidden || "const" in schema || schema.type === "null") return <div hidden>{children}</div>;
  const isChoice = Boolean(schema.oneOf);
  const inside = schema.type === "object" || schema.type === "array" || schema.type === "boolean";
  return (
    <div className={rawErrors?.length ? "field wrong" : "field"}>
      {isChoice && <label htmlFor={`${id}__oneof_select`}>{label}</label>}
      {!isChoice && !inside && <label htmlFor={id}>{label}</label>}
      {children}
      {schema.description && (isChoice || !inside) && (
        <small className="soft">{flowing(schema.description)}</small>
      )}
      {rawErrors?.map((error) => (
        <small key={error} className="said" role="alert">
          {error}
        </small>
      ))}
    </div>
  );
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** Docstrings are broken into lines for a terminal. */
function flowing(text: string): string {
  return text.replace(/(?<!\n)\n(?!\n)/g, " ");
}

/** Fields within a field; those of the whole spec stand in the open. */
function Objects(props: ObjectFieldTemplateProps) {
  const fields = props.properties.filter((each) => !each.hidden).map((each) => each.content);
  if (props.fieldPathId.path.length === 0) return <>{fields}</>;
  return (
    <fieldset>
      <legend>{capital(words(props.title))}</legend>
      {props.description && (
        <small className="soft">{flowing(String(props.schema.description ?? ""))}</small>
      )}
      {fields}
    </fieldset>
  );
}

function button(said: string) {
  return function Button({ id, onClick, disabled }: IconButtonProps) {
    return (
      <button type="button" className="quiet" id={id} onClick={onClick} disabled={disabled}>
        {said}
      </button>
    );
  };
}

export const templates: Partial<Omit<TemplatesType, "ButtonTemplates">> & {
  ButtonTemplates: Partial<TemplatesType["ButtonTemplates"]>;
} = {
  FieldTemplate: Field,
  ObjectFieldTemplate: Objects,
  ButtonTemplates: {
    AddButton: button("Add"),
    RemoveButton: button("Remove"),
    MoveUpButton: button("Up"),
    MoveDownButton: button("Down"),
    CopyButton: button("Copy"),
    ClearButton: button("Clear"),
  },
};
