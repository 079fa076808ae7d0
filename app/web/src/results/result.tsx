export function JobResult(props: any) {
  return <p>{JSON.stringify(Object.keys(props))}</p>;
}
