import { useMutation } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useState } from "react";
import { download } from "../api/client";

/** What went wrong, said where it did. */
export function Failure({ error }: { error: unknown }) {
  if (!error) return null;
  return (
    <p className="failure" role="alert">
      {error instanceof Error ? error.message : String(error)}
    </p>
  );
}

export function Waiting({ children }: { children: ReactNode }) {
  return (
    <p className="waiting" role="status">
      <span className="spinner" aria-hidden="true" /> {children}
    </p>
  );
}

export function Card({ title, children }: { title: ReactNode; children: ReactNode }) {
  return (
    <section className="card">
      <h2>{title}</h2>
      {children}
    </section>
  );
}

export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Progress({ share, label }: { share: number; label: string }) {
  return (
    <progress className="bar" max={1} value={share} aria-label={label}>
      {Math.round(100 * share)} %
    </progress>
  );
}

export function CopyButton({ text, children }: { text: string; children: ReactNode }) {
  const [copied, setCopied] = useState(false);
  return (
    <button
      type="button"
      className="quiet"
      onClick={() =>
        void navigator.clipboard.writeText(text).then(() => {
          setCopied(true);
          setTimeout(() => setCopied(false), 2000);
        })
      }
    >
      {copied ? "Copied" : children}
    </button>
  );
}

/** Downloads with the key, which a plain link could not send. */
export function DownloadButton(props: { url: string; name: string; children: ReactNode }) {
  const get = useMutation({ mutationFn: () => download(props.url, props.name) });
  return (
    <>
      <button type="button" className="quiet" onClick={() => get.mutate()}>
        {props.children}
      </button>
      <Failure error={get.error} />
    </>
  );
}
