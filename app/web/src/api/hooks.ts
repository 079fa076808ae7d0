import { queryOptions, useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import {
  api,
  asked,
  type Analysis,
  type Artifact,
  type Dataset,
  type Job,
  type JobEvent,
  type Model,
  type Page,
  type Sweep,
} from "./client";
import { follow } from "./events";

const POLL_MS = 1000;

export const useModel = (id: string) =>
  useQuery({
    queryKey: ["model", id],
    queryFn: () => asked<Model>(api.GET("/v1/models/{model_id}", { params: { path: { model_id: id } } })),
    staleTime: Infinity,
  });

export const useDataset = (id: string | null) =>
  useQuery({
    queryKey: ["dataset", id],
    queryFn: () =>
      asked<Dataset>(api.GET("/v1/datasets/{dataset_id}", { params: { path: { dataset_id: id as string } } })),
    enabled: id !== null,
    staleTime: Infinity,
  });

export const useAnalysis = (id: string) =>
  useQuery({
    queryKey: ["analysis", id],
    queryFn: () =>
      asked<Analysis>(api.GET("/v1/models/{model_id}/analysis", { params: { path: { model_id: id } } })),
    staleTime: Infinity,
  });

export const jobQuery = (id: string) =>
  queryOptions({
    queryKey: ["job", id],
    queryFn: () => asked<Job>(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } })),
  });

/** A job, asked for again and again until it has ended. */
export const watchedJob = (id: string, every = POLL_MS) =>
  queryOptions({
    ...jobQuery(id),
    refetchInterval: (query) => (query.state.data?.done ? false : every),
  });

/** A job whose events tell when to look; without them it is asked for again and again. */
export const useJob = (id: string, told: boolean) => useQuery(watchedJob(id, told ? 5 * POLL_MS : POLL_MS));

export const useArtifacts = (id: string, ready: boolean) =>
  useQuery({
    queryKey: ["artifacts", id],
    queryFn: () =>
      asked<Artifact[]>(api.GET("/v1/jobs/{job_id}/artifacts", { params: { path: { job_id: id } } })),
    enabled: ready,
  });

/** Jobs, newest first, a page at a time. */
export const useJobs = () =>
  useInfiniteQuery({
    queryKey: ["jobs"],
    queryFn: ({ pageParam: cursor }) =>
      asked<Page<Job>>(api.GET("/v1/jobs", { params: { query: { limit: 50, cursor } } })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    refetchInterval: 2 * POLL_MS,
  });

export const useSweep = (id: string) =>
  useQuery({
    queryKey: ["sweep", id],
    queryFn: () => asked<Sweep>(api.GET("/v1/sweeps/{sweep_id}", { params: { path: { sweep_id: id } } })),
    refetchInterval: (query) => (query.state.data?.done ? false : 2 * POLL_MS),
  });

export const useSweeps = () =>
  useQuery({
    queryKey: ["sweeps"],
    queryFn: () => asked<Page<Sweep>>(api.GET("/v1/sweeps", { params: { query: { limit: 50 } } })),
    refetchInterval: 5 * POLL_MS,
  });

/** All events of a job so far, in order, and whether the stream is connected. */
export function useEvents(id: string): { events: JobEvent[]; connected: boolean } {
  const [events, setEvents] = useState<JobEvent[]>([]);
  const [connected, setConnected] = useState(true);
  const queries = useQueryClient();
  useEffect(() => {
    const stop = new AbortController();
    let due: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      due = undefined;
      void queries.invalidateQueries(jobQuery(id));
    };
    const tell = (event: JobEvent) => {
      setEvents((all) => [...all, event]);
      // Once for what comes at once: a page that is opened late is told all that has happened.
      due ??= setTimeout(look, POLL_MS / 4);
    };
    setEvents([]);
    void follow(id, tell, setConnected, stop.signal);
    return () => {
      stop.abort();
      clearTimeout(due);
    };
  }, [id, queries]);
  return { events, connected };
}
