import { number, words } from "../parts/words";
import type { CurvePoint } from "./charts";
import { isShare } from "./figures";
import { Chart, CurveChart } from "./lazy";
import type { Epoch } from "./types";
import "../style/results.css";

/** Where values differ more than so many times, a logarithmic axis shows both ends. */
const WIDE = 8;

/** Loss and metrics over the epochs, as far as there are any: one chart for each of them. */
export function Curves({ history }: { history: Epoch[] }) {
  const names = new Set(
    history.flatMap((epoch) => Object.keys(epoch.logs).map((name) => name.replace(/^val_/, ""))),
  );
  if (history.length === 0) return <p className="soft">No epoch has ended yet.</p>;
  const cuts = history.flatMap((epoch, at) =>
    at > 0 && (epoch.step ?? 0) !== (history[at - 1]?.step ?? 0) ? [at + 1] : [],
  );
  return (
    <>
      <p className="soft key">
        <span className="key-dashed" aria-hidden="true" /> training ·{" "}
        <span className="key-solid" aria-hidden="true" /> validation
        {cuts.length > 0 && (
          <>
            {" · "}
            <span className="key-cut" aria-hidden="true" /> the next cut of the schedule
          </>
        )}
      </p>
      <div className="curves">
        {[...names].map((name) => (
          <Curve key={name} name={name} history={history} cuts={cuts} />
        ))}
      </div>
    </>
  );
}

function Curve({ name, history, cuts }: { name: string; history: Epoch[]; cuts: number[] }) {
  const points = history.map((epoch, at) => ({
    epoch: at + 1,
    training: epoch.logs[name] ?? null,
    validation: epoch.logs[`val_${name}`] ?? null,
  }));
  const values = points
    .flatMap((point) => [point.training, point.validation])
    .filter((value) => value !== null);
  const least = Math.min(...values);
  // An accuracy above 100 % would be a strange tick.
  const domain: [number, number] | undefined =
    isShare(name) && values.length > 0 ? [Math.max(0, Math.ceil(20 * least - 1) / 20), 1] : undefined;
  const logarithmic = !domain && least > 0 && Math.max(...values) / least > WIDE;
  return (
    <figure>
      <figcaption>
        {words(name)}
        {logarithmic && <span className="soft"> (logarithmic)</span>}
      </figcaption>
      <Chart height={210} label={said(name, points)}>
        <CurveChart points={points} cuts={cuts} logarithmic={logarithmic} domain={domain} />
      </Chart>
    </figure>
  );
}

function said(name: string, points: CurvePoint[]): string {
  const way = (which: "training" | "validation") => {
    const values = points.map((point) => point[which]).filter((value) => value !== null);
    const [first, last] = [values[0], values.at(-1)];
    return first === undefined || last === undefined
      ? ""
      : ` in ${which} from ${number(first)} to ${number(last)}`;
  };
  const ways = [way("training"), way("validation")].filter(Boolean).join(" and");
  return `${words(name)} over ${points.length} ${points.length === 1 ? "epoch" : "epochs"}:${ways}`;
}
