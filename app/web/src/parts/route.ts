// Addresses behind the `#`: the server knows one page, and a reload keeps the place.
import { useSyncExternalStore } from "react";

const read = () => location.hash.replace(/^#/, "") || "/";
function listen(tell: () => void): () => void {
  addEventListener("hashchange", tell);
  return () => removeEventListener("hashchange", tell);
}

export function go(to: string, options?: { replace?: boolean }): void {
  if (options?.replace) location.replace(`#${to}`);
  else location.hash = to;
}

/** wouter's view of the address: without its question mark. */
export function useHashPath(): [string, typeof go] {
  const address = useSyncExternalStore(listen, read);
  return [address.split("?")[0] || "/", go];
}
useHashPath.hrefs = (href: string): string => `#${href}`;

/** What stands behind the question mark. */
export function useQueryParameters(): URLSearchParams {
  return new URLSearchParams(useSyncExternalStore(listen, read).split("?")[1] ?? "");
}
