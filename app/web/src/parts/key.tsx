import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { apiKey } from "../api/client";

/** The API key of services that ask for one. */
export function KeyEntry() {
  const queries = useQueryClient();
  const [open, setOpen] = useState(false);
  const [key, setKey] = useState(apiKey.get());
  if (!open) {
    return (
      <button type="button" className="quiet" onClick={() => setOpen(true)}>
        {apiKey.get() ? "Key ✓" : "API key"}
      </button>
    );
  }
  return (
    <form
      className="inline"
      onSubmit={(event) => {
        event.preventDefault();
        apiKey.set(key.trim());
        void queries.resetQueries();
        setOpen(false);
      }}
    >
      <label>
        <span className="hidden">API key</span>
        <input
          type="password"
          autoFocus
          autoComplete="off"
          placeholder="sct_…"
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
      </label>
      <button type="submit">Use</button>
    </form>
  );
}
