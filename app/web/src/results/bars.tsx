import type { ReactNode } from "react";
import { percent } from "../parts/words";

export interface Bar {
  name: ReactNode;
  key: string;
  /** Length of the bar; 1 is the line. */
  share: number;
  interval?: [number, number] | null;
  text: ReactNode;
  /** Worse than, or no better than, what the line stands for. */
  poor?: boolean;
}

/** Bars beside a line at 100 %, with whiskers: a list that is read without seeing it. */
export function Bars({ bars, label, line }: { bars: Bar[]; label: string; line?: string }) {
  const most = Math.max(1, ...bars.map((bar) => Math.max(bar.share, bar.interval?.[1] ?? 0)));
  const scale = Math.min(most * 1.04, 3);
  const at = (share: number) => `${Math.min(100, (100 * share) / scale)}%`;
  return (
    <>
      <ul className="bars" aria-label={label}>
        {bars.map((bar) => (
          <li key={bar.key}>
            <span className="bar-name">{bar.name}</span>
            <span className="bar-text">{bar.text}</span>
            <span className="bar-track" aria-hidden="true">
              <span className={bar.poor ? "bar-fill poor" : "bar-fill"} style={{ width: at(bar.share) }} />
              {bar.interval && (
                <span
                  className="bar-whisker"
                  style={{
                    left: at(bar.interval[0]),
                    width: `calc(${at(bar.interval[1])} - ${at(bar.interval[0])})`,
                  }}
                />
              )}
              {line && <span className="bar-line" style={{ left: at(1) }} />}
            </span>
          </li>
        ))}
      </ul>
      {line && (
        <p className="soft key">
          <span className="key-line" aria-hidden="true" /> {line}
          {bars.some((bar) => bar.interval) && (
            <>
              {" · "}
              <span className="key-whisker" aria-hidden="true" /> 95 % interval
            </>
          )}
          {bars.some((bar) => bar.poor) && (
            <>
              {" · "}
              <span className="key-poor" aria-hidden="true" /> not noticeably less
            </>
          )}
        </p>
      )}
    </>
  );
}

export const left = (share: number): string => `${percent(share)} left`;
