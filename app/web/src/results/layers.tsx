import { useState } from "react";
import { Choose } from "../parts/choose";
import { Scroll } from "../parts/scroll";
import { count } from "../parts/words";
import { LAYER_MEASURES, layerAfter, layerBefore, type LayerMeasure } from "./figures";
import type { LayerFigure } from "./types";

/** Every layer: how much of it was there, and how much is left. */
export function Layers({ layers }: { layers: LayerFigure[] }) {
  const zeros = layers.some((layer) => layer.nonzero_after < 0.95 * layer.parameters_after);
  const [measure, setMeasure] = useState<LayerMeasure>(zeros ? "nonzero" : "parameters");
  const [whole, setWhole] = useState(false);
  const shown = whole ? layers : layers.filter((layer) => layer.parameters_before > 0 || layer.note);
  const most = Math.max(1, ...layers.map((layer) => layerBefore(layer, measure)));
  return (
    <>
      <p className="row">
        <Choose label="Show" value={measure} options={LAYER_MEASURES} set={setMeasure} />
        {shown.length < layers.length || whole ? (
          <label className="inline">
            <input type="checkbox" checked={whole} onChange={(event) => setWhole(event.target.checked)} />
            layers without parameters too
          </label>
        ) : null}
      </p>
      <Scroll label="Layers before and after" tall>
        <table className="layers">
          <thead>
            <tr>
              <th scope="col">Layer</th>
              <th scope="col" className="number">Units</th>
              <th scope="col" className="number">{LAYER_MEASURES.find(([key]) => key === measure)?.[1]}</th>
              <th scope="col" className="wide" aria-hidden="true" />
            </tr>
          </thead>
          <tbody>
            {shown.map((layer) => (
              <LayerRow key={layer.name} layer={layer} measure={measure} most={most} />
            ))}
          </tbody>
        </table>
      </Scroll>
      <p className="soft key">
        <span className="key-before" aria-hidden="true" /> before · <span className="key-after" aria-hidden="true" />{" "}
        left of it
      </p>
    </>
  );
}

function LayerRow(props: { layer: LayerFigure; measure: LayerMeasure; most: number }) {
  const { layer, measure, most } = props;
  const [before, after] = [layerBefore(layer, measure), layerAfter(layer, measure)];
  return (
    <tr>
      <th scope="row">
        {layer.name} <small className="soft">{layer.class}</small>
        {layer.note && <small className="soft">{layer.note}</small>}
        {layer.sparse && (
          <small className="soft">
            sparse kernels: {layer.sparse.speed_up.toFixed(2)}× of dense
            {layer.sparse.break_even === null
              ? ", never faster here"
              : `, faster from ${Math.round(100 * layer.sparse.break_even)} % zeros on`}
          </small>
        )}
      </th>
      <td className="number">{pair(layer.units_before ?? null, layer.units_after ?? null, String)}</td>
      <td className="number">{pair(before, after, count)}</td>
      <td className="wide" aria-hidden="true">
        <span className="layer-before" style={{ width: `${(100 * before) / most}%` }}>
          <span
            className="layer-after"
            style={{ width: `${before > 0 ? Math.min(100, (100 * after) / before) : 0}%` }}
          />
        </span>
      </td>
    </tr>
  );
}

function pair(before: number | null, after: number | null, text: (value: number) => string): string {
  if (before === null || after === null) return "–";
  return before === after ? text(before) : `${text(before)} → ${text(after)}`;
}
