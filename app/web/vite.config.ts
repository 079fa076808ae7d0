import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Relative addresses: the service may stand below a path of its proxy.
export default defineConfig({
  base: "./",
  plugins: [react()],
  resolve: {
    alias: {
      // Wanted by a helper for tests that @rjsf/core exports; it makes functions from text.
      "@rjsf/validator-ajv8": new URL("./src/goal/schema.ts", import.meta.url).pathname,
    },
  },
  build: {
    outDir: "built",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the policy of the page allows no data: scripts or styles
    modulePreload: { polyfill: false },
    target: "es2022",
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/examples": "http://127.0.0.1:8000" } },
});
