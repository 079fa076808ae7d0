export default function SweepPage(props: any) {
  return <p>{JSON.stringify(props)}</p>;
}
