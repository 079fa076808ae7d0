import { percent, words } from "../parts/words";
import { lowerIsBetter, metricText } from "./figures";
import { Scroll } from "../parts/scroll";
import type { SensitivityFigure } from "./types";

/** What the metric would be without a share of one layer; deeper colour is a greater harm. */
export function SensitivityTable({ figure }: { figure: SensitivityFigure }) {
  const whole = figure.whole;
  const harm = (value: number | null): number => {
    if (value === null || whole === null || whole === 0) return 0;
    const lost = lowerIsBetter(figure.metric) ? value - whole : whole - value;
    return Math.max(0, Math.min(1, lost / Math.abs(whole)));
  };
  return (
    <>
      <p>
        {words(figure.metric)} on {figure.samples} samples when so much of one layer alone is removed, without any
        training; the whole model has {metricText(figure.metric, whole)}.
      </p>
      <Scroll label="Sensitivity of the layers" tall>
        <table className="sensitivity">
          <thead>
            <tr>
              <th scope="col">Layer</th>
              {figure.shares.map((share) => (
                <th key={share} scope="col" className="number">
                  −{percent(share)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {figure.layers.map((layer) => (
              <tr key={layer.layers.join()}>
                <th scope="row">{layer.layers.join(", ")}</th>
                {layer.values.map((value, at) => (
                  <td
                    key={figure.shares[at]}
                    className="number"
                    style={{
                      background: `color-mix(in srgb, var(--mark) ${Math.round(42 * harm(value))}%, transparent)`,
                    }}
                  >
                    {value === null ? "–" : metricText(figure.metric, value)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </>
  );
}
