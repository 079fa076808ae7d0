import type { ReactNode } from "react";

/** What may be wider than the screen, or higher: the keyboard reaches it, and so can scroll it. */
export function Scroll(props: { label: string; tall?: boolean; children: ReactNode }) {
  return (
    <div className={props.tall ? "scroll tall" : "scroll"} tabIndex={0} role="region" aria-label={props.label}>
      {props.children}
    </div>
  );
}
