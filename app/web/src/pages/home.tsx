import { useMutation } from "@tanstack/react-query";
import { ROOT } from "../api/client";
import { upload } from "../api/upload";
import { Card, Failure, Waiting } from "../parts/common";
import { Drop } from "../parts/drop";
import { go } from "../parts/route";

export function HomePage() {
  return (
    <>
      <h1>Make a Keras model really smaller and really faster</h1>
      <p className="soft">
        Drop a trained model, say what you want, and download a plain Keras file with units and
        channels removed, measured before and after in the same run.
      </p>
      <Card title="Your model">
        <Drop
          kind="model"
          accept=".keras,.h5,.hdf5"
          label={
            <>
              <strong>Drop a model here</strong>, or press to choose one
              <br />
              <span className="soft">.keras or .h5, Functional or Sequential</span>
            </>
          }
          onReady={(id) => go(`/models/${id}`)}
        />
      </Card>
      <Example />
    </>
  );
}

/** The service's own digits, uploaded as a user's files would be. */
function Example() {
  const start = useMutation({
    mutationFn: async () =>
      Promise.all([
        upload(await example("digits.keras"), "model", {}, () => undefined),
        upload(await example("digits.npz"), "dataset", { scale: 0.0625 }, () => undefined),
      ]),
    onSuccess: ([model, data]) => go(`/models/${model}?data=${data}`),
  });
  return (
    <Card title="No model at hand?">
      <p>
        A small network that reads handwritten digits, with the 1,797 real digits that it was made
        for.
      </p>
      {start.isPending ? (
        <Waiting>Uploading the example</Waiting>
      ) : (
        <button type="button" onClick={() => start.mutate()}>
          Try the example
        </button>
      )}
      <Failure error={start.error} />
    </Card>
  );
}

async function example(name: string): Promise<File> {
  const response = await fetch(`${ROOT}/examples/${name}`);
  if (!response.ok) throw new Error(`The example ${name} is not there (${response.status}).`);
  return new File([await response.blob()], name);
}
