import { Facts } from "../parts/common";
import { bytes, count, milliseconds, number, percent, words } from "../parts/words";
import { Chart, TrialChart } from "./lazy";
import { Scroll } from "../parts/scroll";
import { type TargetFigure, whiskers } from "./types";

const KINDS: Record<string, string> = {
  fraction: "a share removed",
  parameters: "parameters kept",
  macs: "MACs kept",
  bytes: "size of a file",
  latency: "time for one call",
  accuracy_drop: "accuracy lost",
};

/** A figure of the target, in its unit. */
function text(target: TargetFigure, value: number): string {
  if (target.unit.startsWith("bytes")) return bytes(value);
  if (target.unit === "ms") return milliseconds(value);
  if (target.unit.startsWith("share")) return percent(value);
  if (target.unit.startsWith("points")) return `${number(Number(value.toPrecision(3)))} points`;
  return `${number(Number(value.toPrecision(3)))} ${target.unit}`;
}

/** Files are held to the byte. */
const exactly = (target: TargetFigure, value: number): string =>
  target.unit.startsWith("bytes") ? `${value.toLocaleString("en")} ${target.unit}` : text(target, value);

/** What was asked, what came of it, and what a search tried. */
export function TargetResult({ target }: { target: TargetFigure }) {
  const achieved = target.interval;
  return (
    <>
      <Facts
        facts={[
          ["Goal", KINDS[target.kind] ?? words(target.kind)],
          ["Asked", exactly(target, target.asked)],
          [
            "Achieved",
            <>
              {exactly(target, target.achieved)}
              {achieved && <small className="soft">{achieved.map((end) => text(target, end)).join(" to ")}</small>}
            </>,
          ],
          ["Reached", target.met ? (target.within ? "Yes, closely" : "Yes") : "No"],
        ]}
      />
      {/^(share|points)/.test(target.unit) && <p className="soft">Unit: {target.unit}.</p>}
      {target.note && <p>{target.note}</p>}
      {target.trials.length > 0 && <Trials target={target} />}
    </>
  );
}

function Trials({ target }: { target: TargetFigure }) {
  const points = target.trials.map((trial) => ({
    keep: 100 * trial.keep,
    value: trial.value,
    error: whiskers(trial.value, trial.interval),
  }));
  return (
    <>
      <h3>What the search tried</h3>
      {target.kind === "accuracy_drop" && (
        <p className="soft">Candidates are measured on validation samples, which they are chosen by.</p>
      )}
      <Chart
        height={260}
        label={`${points.length} candidates; ${text(target, target.asked)} was asked; the table below has the figures`}
      >
        <TrialChart trials={points} asked={target.asked} y={target.unit} />
      </Chart>
      <Scroll label="Candidates of the search">
        <table>
          <thead>
            <tr>
              {["Kept", "Parameters", "MACs", "Measured", "Foreseen"].map((name) => (
                <th key={name} scope="col" className="number">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {target.trials.map((trial, at) => (
              <tr key={at}>
                <td className="number">{percent(trial.keep)}</td>
                <td className="number">{count(trial.parameters)}</td>
                <td className="number">{count(trial.macs)}</td>
                <td className="number">{text(target, trial.value)}</td>
                <td className="number">
                  {trial.predicted === null || trial.predicted === undefined ? "–" : text(target, trial.predicted)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </>
  );
}
