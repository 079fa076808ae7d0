export function CopyAs(props: any) {
  return <p>{JSON.stringify(Object.keys(props))}</p>;
}
