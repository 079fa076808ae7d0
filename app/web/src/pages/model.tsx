import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import type { Analysis, Dataset, Model, Spec } from "../api/client";
import { jobQuery, useAnalysis, useDataset, useModel } from "../api/hooks";
import { Goals } from "../goal/goals";
import { Card, Facts, Failure, Waiting } from "../parts/common";
import { Drop } from "../parts/drop";
import { go, useQueryParameters } from "../parts/route";
import { Scroll } from "../parts/scroll";
import { bytes, count, percent } from "../parts/words";

const Graph = lazy(() => import("../parts/graph"));

export default function ModelPage({ id }: { id: string }) {
  const model = useModel(id);
  const parameters = useQueryParameters();
  const from = parameters.get("from");
  const earlier = useQuery({ ...jobQuery(from ?? ""), enabled: from !== null });
  if (model.error) return <Failure error={model.error} />;
  if (!model.data || (from && earlier.isLoading)) return <Waiting>Loading the model</Waiting>;
  const data = parameters.get("data") ?? earlier.data?.dataset ?? null;
  return (
    <>
      <h1>{model.data.filename}</h1>
      <Verdict model={model.data} />
      <DataCard id={id} data={data} />
      <Goals
        model={model.data}
        data={data}
        start={(earlier.data?.spec as Spec | undefined) ?? null}
        key={`${data}-${from}`}
      />
    </>
  );
}

function Verdict({ model }: { model: Model }) {
  const analysis = useAnalysis(model.id);
  return (
    <Card title="What it is">
      <Facts
        facts={[
          ["Inputs", model.inputs.map((each) => shape(each.shape)).join(", ")],
          ["Outputs", model.outputs.map((each) => shape(each.shape)).join(", ")],
          ["Layers", count(model.layers.length)],
          ["Parameters", count(model.parameters)],
          ["MACs for one sample", analysis.data ? count(analysis.data.macs) : "…"],
          ["File", bytes(model.bytes)],
          ["Keras", model.keras_version ?? "unknown"],
        ]}
      />
      {model.mends?.length ? (
        <p className="soft">
          Written by Keras 2 and mended on the way in: {model.mends.length} changes, which compute
          the same.
        </p>
      ) : null}
      {analysis.isLoading && <Waiting>Looking for what can be removed</Waiting>}
      <Failure error={analysis.error} />
      {analysis.data && <Prunable analysis={analysis.data} />}
    </Card>
  );
}

function shape(axes: readonly (number | null)[] | null | undefined): string {
  return axes ? axes.slice(1).map((axis) => axis ?? "any").join(" × ") || "one number" : "unknown";
}

function Prunable({ analysis }: { analysis: Analysis }) {
  const own = analysis.layers.filter((layer) => layer.units != null);
  const units = own.reduce((sum, layer) => sum + (layer.units ?? 0), 0);
  const free = own.reduce((sum, layer) => sum + (layer.prunable ?? 0), 0);
  const held = analysis.layers.filter((layer) => layer.frozen);
  return (
    <>
      <p>
        <strong>
          {free
            ? `${count(free)} of ${count(units)} units and channels can be removed (${percent(free / units)}).`
            : "No unit or channel of this model can be removed; its weights can still be set to zero."}
        </strong>{" "}
        {held.length > 0 && `${held.length === 1 ? "One layer is" : `${held.length} layers are`} held; the table says why.`}
      </p>
      {analysis.notes?.map((note) => (
        <p className="soft" key={note}>
          {note}
        </p>
      ))}
      <Suspense fallback={<Waiting>Drawing the graph</Waiting>}>
        <Graph analysis={analysis} />
      </Suspense>
      <details>
        <summary>All layers as a table</summary>
        <LayerTable analysis={analysis} />
      </details>
    </>
  );
}

function LayerTable({ analysis }: { analysis: Analysis }) {
  return (
    <Scroll label="Layers of the model">
      <table>
        <thead>
          <tr>
            <th scope="col">Layer</th>
            <th scope="col">Class</th>
            <th scope="col" className="number">Units</th>
            <th scope="col" className="number">Can go</th>
            <th scope="col" className="number">Parameters</th>
            <th scope="col" className="number">MACs</th>
            <th scope="col">Coupled with, or held by</th>
          </tr>
        </thead>
        <tbody>
          {analysis.layers.map((layer) => (
            <tr key={layer.name}>
              <th scope="row">{layer.name}</th>
              <td>{layer.class}</td>
              <td className="number">{layer.units ?? ""}</td>
              <td className="number">{layer.units != null ? layer.prunable : ""}</td>
              <td className="number">{count(layer.parameters ?? 0)}</td>
              <td className="number">{count(layer.macs ?? 0)}</td>
              <td>{layer.frozen ?? layer.coupled_with?.join(", ")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function DataCard({ id, data }: { id: string; data: string | null }) {
  const found = useDataset(data);
  const [scale, setScale] = useState("");
  const [target, setTarget] = useState("");
  if (data) {
    return (
      <Card title="Your data">
        <Failure error={found.error} />
        {found.data && <DataFacts data={found.data} />}
        <button type="button" className="quiet" onClick={() => go(`/models/${id}`)}>
          Use other data
        </button>
      </Card>
    );
  }
  const options = {
    ...(scale && Number(scale) > 0 ? { scale: Number(scale) } : {}),
    ...(target.trim() ? { target: target.trim() } : {}),
  };
  return (
    <Card title="Your data">
      <p className="soft">
        Samples let the pruned model be trained again and its accuracy be measured. Without them it
        is only cut, and size and speed are measured.
      </p>
      <div className="row">
        <label>
          Multiply values by{" "}
          <input
            type="number"
            step="any"
            min="0"
            placeholder="as they are"
            value={scale}
            onChange={(event) => setScale(event.target.value)}
          />
        </label>
        <button type="button" className="quiet" onClick={() => setScale(String(1 / 255))}>
          1/255, for pixels
        </button>
        <label>
          Target column of a table{" "}
          <input value={target} placeholder="none" onChange={(event) => setTarget(event.target.value)} />
        </label>
      </div>
      <Drop
        kind="dataset"
        accept=".npz,.csv,.parquet,.zip"
        options={options}
        label={
          <>
            <strong>Drop your data here</strong>, or press to choose a file
            <br />
            <span className="soft">
              .npz with x_train, y_train, x_test, y_test; .csv or .parquet with a target column; a
              .zip of images in class folders
            </span>
          </>
        }
        onReady={(made) => go(`/models/${id}?data=${made}`)}
      />
    </Card>
  );
}

function DataFacts({ data }: { data: Dataset }) {
  return (
    <Facts
      facts={[
        ["File", `${data.filename} (${bytes(data.bytes)})`],
        ...Object.entries(data.splits).map(
          ([name, split]): [string, string] => [`${name} samples`, count(split.samples)],
        ),
        ...(data.options?.scale ? [["Values times", String(data.options.scale)] as [string, string]] : []),
      ]}
    />
  );
}
