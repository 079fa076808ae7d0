export function SweepBuilder(props: any) {
  return <p>{JSON.stringify(Object.keys(props))}</p>;
}
