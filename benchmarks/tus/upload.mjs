// Uploads a file by tus: node upload.mjs ENDPOINT FILE METADATA_JSON [CHUNK_BYTES].
// Prints one line of JSON: the upload's address, and how often it had to go on.
import fs from "node:fs";
import { Upload } from "tus-js-client";

const [endpoint, path, metadata, chunk] = process.argv.slice(2);
let retries = 0;
const upload = new Upload(fs.createReadStream(path), {
  endpoint,
  metadata: JSON.parse(metadata),
  uploadSize: fs.statSync(path).size,
  chunkSize: chunk ? Number(chunk) : Infinity,
  retryDelays: [0, 50, 100, 200, 400, 800, 1600, 3200, 6400],
  onShouldRetry: () => {
    retries += 1;
    return true;
  },
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => {
    console.log(JSON.stringify({ url: upload.url, retries }));
  },
});
upload.start();
