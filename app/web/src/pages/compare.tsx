export default function ComparePage(props: any) {
  return <p>{JSON.stringify(props)}</p>;
}
