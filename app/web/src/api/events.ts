// A job's events as they happen. EventSource cannot send a key, so the stream is read by hand.
import { createParser } from "eventsource-parser";
import { authorization, Problem, ROOT, type JobEvent } from "./client";

const LONGEST_PAUSE_MS = 15_000;

/** Calls `tell` with each event once, and reconnects where the last one was, until `stop` fires. */
export async function follow(
  job: string,
  tell: (event: JobEvent) => void,
  connected: (is: boolean) => void,
  stop: AbortSignal,
): Promise<void> {
  let last = 0;
  let kind = "";
  let pause = 500;
  while (!stop.aborted) {
    try {
      const response = await fetch(`${ROOT}/v1/jobs/${job}/events?after=${last}`, {
        headers: { Accept: "text/event-stream", ...authorization() },
        signal: stop,
      });
      if (response.status === 404 || response.status === 401) {
        throw Problem.of(response.status, await response.json());
      }
      if (response.ok && response.body) {
        connected(true);
        pause = 500;
        const parser = createParser({
          onEvent: ({ data }) => {
            const event = JSON.parse(data) as JobEvent;
            if (event.id > last) {
              last = event.id;
              kind = event.kind;
              tell(event);
            }
          },
        });
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let read = await reader.read(); !read.done; read = await reader.read()) {
          parser.feed(read.value);
        }
        // An end may be followed by a retry: only the stream knows which was the last.
        if (ENDS.has(kind)) return;
      }
    } catch (error) {
      if (error instanceof Problem || stop.aborted) return;
    }
    connected(false);
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

const ENDS = new Set(["succeeded", "failed", "cancelled"]);
