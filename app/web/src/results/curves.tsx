export function Curves(props: any) {
  return <p>{JSON.stringify(Object.keys(props))}</p>;
}
