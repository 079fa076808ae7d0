// The whole spec, as a form made from the service's own schema and as JSON, in step.
import Form from "@rjsf/core";
import type { ErrorSchema } from "@rjsf/utils";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { api, asked, type Problem, type Spec } from "../api/client";
import { Failure, Waiting } from "../parts/common";
import { formSchema, LOOKS, validator, withoutDefaults } from "./schema";
import { templates } from "./templates";
import "../style/form.css";

export default function FullSpec(props: {
  spec: Spec;
  setSpec: (spec: Spec) => void;
  problem: Problem | null;
}) {
  const schema = useQuery({
    queryKey: ["schema"],
    queryFn: () =>
      asked<Record<string, unknown>>(
        api.GET("/v1/schemas/{name}", { params: { path: { name: "spec" } } }),
      ),
    staleTime: Infinity,
  });
  const form = useMemo(() => (schema.data ? formSchema(schema.data) : null), [schema.data]);
  if (schema.error) return <Failure error={schema.error} />;
  if (!form) return <Waiting>Loading the form</Waiting>;
  return (
    <div className="full">
      <Form
        tagName="div"
        schema={form}
        formData={props.spec}
        validator={validator}
        templates={templates}
        uiSchema={LOOKS}
        experimental_defaultFormStateBehavior={{ emptyObjectFields: "skipDefaults" }}
        extraErrors={atFields(props.problem)}
        noHtml5Validate
        showErrorList={false}
        onChange={({ formData }) => {
          const changed = withoutDefaults(formData) as Spec;
          if (JSON.stringify(changed) !== JSON.stringify(props.spec)) props.setSpec(changed);
        }}
      />
      <AsJson spec={props.spec} setSpec={props.setSpec} />
    </div>
  );
}

/** The service's own findings, each at its field. */
function atFields(problem: Problem | null): ErrorSchema {
  const errors: Record<string, unknown> = {};
  for (const { field, detail } of problem?.findings ?? []) {
    let at = errors;
    for (const part of (field ?? "").split(".").filter(Boolean)) {
      at = (at[part] ??= {}) as Record<string, unknown>;
    }
    at.__errors = [...((at.__errors as string[]) ?? []), detail];
  }
  return errors as ErrorSchema;
}

function AsJson({ spec, setSpec }: { spec: Spec; setSpec: (spec: Spec) => void }) {
  const told = JSON.stringify(spec, null, 2);
  const [text, setText] = useState(told);
  const [wrong, setWrong] = useState("");
  const [editing, setEditing] = useState(false);
  // What the form says replaces the text, unless it is just being written here.
  useEffect(() => {
    if (!editing) setText(told);
  }, [told, editing]);
  return (
    <div className="json">
      <label>
        <strong>As JSON</strong>
        <textarea
          rows={24}
          spellCheck={false}
          value={text}
          aria-invalid={wrong !== ""}
          onFocus={() => setEditing(true)}
          onBlur={() => {
            setEditing(false);
            setWrong("");
          }}
          onChange={(event) => {
            setText(event.target.value);
            try {
              setSpec(objectOf(event.target.value));
              setWrong("");
            } catch (error) {
              setWrong(`Not JSON yet: ${(error as Error).message}`);
            }
          }}
        />
      </label>
      {wrong && (
        <p className="soft" role="status">
          {wrong}
        </p>
      )}
    </div>
  );
}

function objectOf(text: string): Spec {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error("expected an object, as in {…}");
  }
  return value as Spec;
}
