import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Router } from "wouter";
import { Problem } from "./api/client";
import { App } from "./app";
import { useHashPath } from "./parts/route";
import "./style/base.css";
import "./style/parts.css";

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // A refusal stays one; a busy or absent service is asked again.
      retry: (times, error) =>
        times < 5 && !(error instanceof Problem && error.status >= 400 && error.status < 429),
    },
  },
});

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <Router hook={useHashPath}>
        <App />
      </Router>
    </QueryClientProvider>
  </StrictMode>,
);
