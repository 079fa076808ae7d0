import { apiKey, ROOT, type Artifact, type Job } from "../api/client";
import { useArtifacts } from "../api/hooks";
import { Card, CopyButton, DownloadButton, Failure, Waiting } from "../parts/common";
import { bytes, when } from "../parts/words";
import "../style/results.css";

/** Models before what was written about them. */
const order = (file: Artifact): number => (file.name.startsWith("model") ? 0 : file.name === "report.html" ? 1 : 2);
const readable = (file: Artifact): boolean => file.media_type.startsWith("text/") || file.name === "metrics.json";

/** All files of a job, however it ended: a failed one has its log. */
export function Files({ job }: { job: Job }) {
  const { data, error, isPending } = useArtifacts(job.id, job.done);
  return (
    <Card title="Files">
      <Failure error={error} />
      {isPending && <Waiting>Looking for the files</Waiting>}
      {data?.length === 0 && <p className="soft">There are none.</p>}
      {data && (
        <ul className="files">
          {[...data]
            .sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name))
            .map((file) => (
              <FileRow key={file.name} file={file} />
            ))}
        </ul>
      )}
      {job.expires_at && <p className="soft">They are deleted on {when(job.expires_at)}.</p>}
      <p>
        <Open url={`/v1/models/${job.model}/analysis`} name="analysis.json">
          Analysis of the original model
        </Open>
      </p>
    </Card>
  );
}

function FileRow({ file }: { file: Artifact }) {
  return (
    <li>
      <span className="file-name">
        {readable(file) ? (
          <Open url={file.url} name={file.name}>
            {file.name}
          </Open>
        ) : (
          file.name
        )}
      </span>
      <span className="file-size">{bytes(file.bytes)}</span>
      <span className="file-sum">
        <span className="soft">SHA-256</span> <code title={file.sha256}>{file.sha256.slice(0, 12)}…</code>
        <CopyButton text={file.sha256}>
          Copy<span className="hidden"> the SHA-256 of {file.name}</span>
        </CopyButton>
      </span>
      <span className="file-get">
        <DownloadButton url={file.url} name={file.name}>
          Download<span className="hidden"> {file.name}</span>
        </DownloadButton>
      </span>
    </li>
  );
}

/**
 * Opens a file in a new tab.
 *
 * With a key it is saved instead: a link sends no key, and a blob: page would take this page's
 * policy with it, which forbids a report the styles that it carries.
 */
function Open({ url, name, children }: { url: string; name: string; children: string }) {
  if (apiKey.get()) {
    return (
      <DownloadButton url={url} name={name}>
        {children}
      </DownloadButton>
    );
  }
  return (
    <a href={ROOT + url} target="_blank" rel="noopener">
      {children}
      <span className="hidden"> (opens in a new tab)</span>
    </a>
  );
}
