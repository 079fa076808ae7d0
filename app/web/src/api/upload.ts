// Uploads that go on after a broken connection: the tus protocol.
import * as tus from "tus-js-client";
import { api, asked, authorization, Problem, ROOT, type Upload } from "./client";

const CHUNK = 8 * 1024 * 1024;
const READING_MS = 400;

/** Resolves to the id of the model or data set; `tell` hears the share sent, then 1 while the
 * service reads the file. */
export async function upload(
  file: File,
  kind: "model" | "dataset",
  options: Record<string, unknown>,
  tell: (share: number) => void,
  stop?: AbortSignal,
): Promise<string> {
  const url = await sent(file, kind, options, tell, stop);
  tell(1);
  const id = url.split("/").at(-1) as string;
  for (;;) {
    const found = await asked<Upload>(
      api.GET("/v1/uploads/{upload_id}", { params: { path: { upload_id: id } }, signal: stop }),
    );
    if (found.error) throw Problem.of(422, found.error);
    const made = found.model ?? found.dataset;
    if (made) return made;
    if (found.done) throw new Problem(422, `The upload ended as ${found.state}.`);
    await new Promise((done) => setTimeout(done, READING_MS));
  }
}

function sent(
  file: File,
  kind: string,
  options: Record<string, unknown>,
  tell: (share: number) => void,
  stop?: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const metadata: Record<string, string> = { kind, filename: file.name };
    if (kind === "dataset") metadata.options = JSON.stringify(options);
    const sending: tus.Upload = new tus.Upload(file, {
      endpoint: `${ROOT}/v1/uploads`,
      metadata,
      chunkSize: CHUNK,
      headers: authorization(),
      retryDelays: [0, 500, 1000, 3000, 5000, 10_000, 20_000],
      storeFingerprintForResuming: true,
      removeFingerprintOnSuccess: true,
      onProgress: (bytes, total) => tell(total ? Math.min(bytes / total, 0.999) : 0),
      onSuccess: () => resolve(sending.url as string),
      onError: (error) => reject(problem(error)),
    });
    stop?.addEventListener("abort", () => {
      void sending.abort(true);
      reject(new DOMException("Cancelled", "AbortError"));
    });
    sending.start();
  });
}

function problem(error: Error | tus.DetailedError): Problem {
  const response = "originalResponse" in error ? error.originalResponse : null;
  if (!response) return new Problem(0, "The connection broke and did not come back; try again.");
  try {
    return Problem.of(response.getStatus(), JSON.parse(response.getBody()));
  } catch {
    return new Problem(response.getStatus(), `The service answered ${response.getStatus()}.`);
  }
}
