import { useRef, useState, type ReactNode } from "react";
import { upload } from "../api/upload";
import { Failure, Progress } from "./common";

type State = { file: string; share: number } | null;

/** A place to drop a file on, or to choose one, that uploads it and says how far it is. */
export function Drop(props: {
  kind: "model" | "dataset";
  accept: string;
  label: ReactNode;
  options?: Record<string, unknown>;
  onReady: (id: string, file: File) => void;
}) {
  const [state, setState] = useState<State>(null);
  const [error, setError] = useState<unknown>(null);
  const [over, setOver] = useState(false);
  const stop = useRef<AbortController | null>(null);

  async function take(file: File | undefined) {
    if (!file) return;
    setError(null);
    stop.current = new AbortController();
    try {
      const tell = (share: number) => setState({ file: file.name, share });
      tell(0);
      const id = await upload(file, props.kind, props.options ?? {}, tell, stop.current.signal);
      setState(null);
      props.onReady(id, file);
    } catch (caught) {
      setState(null);
      if (!(caught instanceof DOMException)) setError(caught);
    }
  }

  if (state) {
    return (
      <div role="status">
        <p>
          {state.share < 1 ? `Uploading ${state.file}` : `Reading ${state.file}`}…{" "}
          {state.share < 1 && `${Math.round(100 * state.share)} %`}
        </p>
        <Progress share={state.share} label={`Upload of ${state.file}`} />
        <button type="button" className="danger" onClick={() => stop.current?.abort()}>
          Cancel the upload
        </button>
      </div>
    );
  }
  return (
    <>
      <label
        className={over ? "drop over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          void take(event.dataTransfer.files[0]);
        }}
      >
        {props.label}
        <input
          className="hidden"
          type="file"
          accept={props.accept}
          onChange={(event) => {
            void take(event.target.files?.[0]);
            event.target.value = "";
          }}
        />
      </label>
      <Failure error={error} />
    </>
  );
}
