import dagre from "@dagrejs/dagre";
import {
  Background,
  Controls,
  Handle,
  Position,
  ReactFlow,
  type Edge,
  type Node,
  type NodeProps,
  type ReactFlowInstance,
} from "@xyflow/react";
import "@xyflow/react/dist/style.css";
import { useEffect, useMemo, useRef, useState } from "react";
import type { AnalysedLayer, Analysis } from "../api/client";
import { count } from "./words";
import "../style/graph.css";

const WIDTH = 220;
const HEIGHT = 62;
const FIT = { maxZoom: 1, minZoom: 0.35 };

type LayerNode = Node<{ layer: AnalysedLayer; look: string }, "layer">;

export default function Graph({ analysis }: { analysis: Analysis }) {
  const [pointed, setPointed] = useState<string | null>(null);
  const flow = useRef<ReactFlowInstance<LayerNode> | null>(null);
  useEffect(() => {
    const fit = () => void flow.current?.fitView(FIT);
    addEventListener("resize", fit);
    return () => removeEventListener("resize", fit);
  }, []);
  const placed = useMemo(() => place(analysis), [analysis]);
  const layers = useMemo(() => new Map(analysis.layers.map((each) => [each.name, each])), [analysis]);
  const layer = pointed ? layers.get(pointed) : undefined;
  const together = new Set(layer ? [layer.name, ...(layer.coupled_with ?? [])] : []);
  const nodes: LayerNode[] = placed.map(({ x, y, layer: each }) => ({
    id: each.name,
    type: "layer",
    position: { x, y },
    data: { layer: each, look: look(each, together) },
    ariaLabel: told(each),
  }));
  const edges: Edge[] = analysis.edges.map(([from, to], index) => ({
    id: `${index}`,
    source: from,
    target: to,
    focusable: false,
  }));
  return (
    <>
      <div className="graph" onFocus={(event) => setPointed(nodeOf(event.target))}>
        <ReactFlow
          nodes={nodes}
          edges={edges}
          nodeTypes={NODES}
          fitView
          fitViewOptions={FIT}
          onInit={(instance) => {
            flow.current = instance;
          }}
          minZoom={0.05}
          nodesDraggable={false}
          nodesConnectable={false}
          edgesFocusable={false}
          onlyRenderVisibleElements={placed.length > 150}
          preventScrolling={false}
          proOptions={{ hideAttribution: false }}
          onNodeMouseEnter={(_, node) => setPointed(node.id)}
          onNodeMouseLeave={() => setPointed(null)}
          onNodeClick={(_, node) => setPointed(node.id)}
        >
          <Background />
          <Controls showInteractive={false} />
        </ReactFlow>
      </div>
      <p className="soft graph-says" aria-live="polite">
        {layer ? told(layer) : "Point at a layer to see which others lose their units with it."}
      </p>
    </>
  );
}

function LayerBox({ data: { layer, look } }: NodeProps<LayerNode>) {
  return (
    <div className={`layer ${look}`}>
      <Handle type="target" position={Position.Top} isConnectable={false} />
      <strong>{layer.name}</strong>
      <span>
        {layer.class}
        {layer.units != null && ` · ${count(layer.prunable ?? 0)} of ${count(layer.units)} can go`}
      </span>
      <Handle type="source" position={Position.Bottom} isConnectable={false} />
    </div>
  );
}
const NODES = { layer: LayerBox };

function nodeOf(element: Element): string | null {
  return element.closest("[data-id]")?.getAttribute("data-id") ?? null;
}

function look(layer: AnalysedLayer, together: Set<string>): string {
  const kind = layer.frozen ? "stays" : layer.prunable ? "goes" : "passes";
  return together.has(layer.name) ? `${kind} together` : kind;
}

function told(layer: AnalysedLayer): string {
  const parts = [`${layer.name} (${layer.class})`];
  if (layer.units != null) parts.push(`${layer.prunable} of ${layer.units} units can go`);
  if (layer.coupled_with?.length) parts.push(`together with ${layer.coupled_with.join(", ")}`);
  if (layer.frozen) parts.push(layer.frozen);
  return parts.join("; ");
}

function place(analysis: Analysis): { x: number; y: number; layer: AnalysedLayer }[] {
  const drawn = new dagre.graphlib.Graph().setDefaultEdgeLabel(() => ({}));
  drawn.setGraph({ rankdir: "TB", nodesep: 24, ranksep: 36 });
  for (const layer of analysis.layers) drawn.setNode(layer.name, { width: WIDTH, height: HEIGHT });
  for (const [from, to] of analysis.edges) drawn.setEdge(from, to);
  dagre.layout(drawn);
  return analysis.layers.map((layer) => {
    const { x, y } = drawn.node(layer.name) as { x: number; y: number };
    return { x: x - WIDTH / 2, y: y - HEIGHT / 2, layer };
  });
}
