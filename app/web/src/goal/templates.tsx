import type { FieldTemplateProps, ObjectFieldTemplateProps, TemplatesType } from "@rjsf/utils";

/** A field with its name, its hint and what the service says of it. */
function Field(props: FieldTemplateProps) {
  const { id, label, schema, children, hidden, rawErrors, displayLabel } = props;
  if (hidden || "const" in schema || schema.type === "null") return <div hidden>{children}</div>;
  const nested = schema.type === "object" || Boolean(schema.oneOf);
  return (
    <div className={rawErrors?.length ? "field wrong" : "field"}>
      {displayLabel && !nested && <label htmlFor={id}>{label}</label>}
      {children}
      {schema.description && !nested && <small className="soft">{schema.description}</small>}
      {rawErrors?.map((error) => (
        <small key={error} className="said" role="alert">
          {error}
        </small>
      ))}
    </div>
  );
}

/** Fields within a field; those of the whole spec stand in the open. */
function Objects(props: ObjectFieldTemplateProps) {
  const fields = props.properties.filter((each) => !each.hidden).map((each) => each.content);
  if (props.fieldPathId.path.length === 0) return <>{fields}</>;
  return (
    <fieldset>
      <legend>{props.title}</legend>
      {props.description && <small className="soft">{props.description}</small>}
      {fields}
    </fieldset>
  );
}

export const templates: Partial<TemplatesType> = {
  FieldTemplate: Field,
  ObjectFieldTemplate: Objects,
};
