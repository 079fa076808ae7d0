import { useState } from "react";
import { apiKey, ROOT, type Spec } from "../api/client";
import { useDataset, useModel } from "../api/hooks";
import { CopyButton } from "../parts/common";
import { curl, prune, python, shellSweep, type Where } from "./commands";
import "../style/results.css";

const FORMS = ["curl", "Python", "Command line"] as const;

/** The same job or sweep as a command: for scripts, notebooks and colleagues. */
export function CopyAs({ spec, kind }: { spec: Spec; kind: "job" | "sweep" }) {
  const [form, setForm] = useState<(typeof FORMS)[number]>("curl");
  const where = { server: ROOT, keyed: Boolean(apiKey.get()) };
  return (
    <div className="copy-as">
      <fieldset className="segments">
        <legend className="hidden">Form</legend>
        {FORMS.map((each) => (
          <label key={each}>
            <input type="radio" name={`form-${kind}`} checked={form === each} onChange={() => setForm(each)} />
            <span>{each}</span>
          </label>
        ))}
      </fieldset>
      {form === "curl" && <Command text={curl(spec, kind, where)} />}
      {form === "Python" && <Command text={python(spec, kind, where)} />}
      {form === "Command line" &&
        (kind === "job" ? <PruneCommand spec={spec} where={where} /> : <Command text={shellSweep(spec, where)} />)}
      {where.keyed && (
        <p className="soft">
          The key is not written here: put it into the environment as <code>SECATEUR_API_KEY</code>.
        </p>
      )}
    </div>
  );
}

function Command({ text }: { text: string }) {
  return (
    <>
      <pre tabIndex={0} role="region" aria-label="Command">
        <code>{text}</code>
      </pre>
      <CopyButton text={text}>Copy</CopyButton>
    </>
  );
}

/** With the names under which the files were uploaded: the command line uploads them again. */
function PruneCommand({ spec, where }: { spec: Spec; where: Where }) {
  const model = useModel(String(spec.model));
  const dataset = useDataset(typeof spec.dataset === "string" ? spec.dataset : null);
  const files = {
    model: model.data?.filename ?? "model.keras",
    data: spec.dataset ? (dataset.data?.filename ?? "data.npz") : null,
    options: (dataset.data?.options ?? {}) as Record<string, unknown>,
  };
  return <Command text={prune(spec, files, where)} />;
}
