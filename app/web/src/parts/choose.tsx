/** One of several, by a select: [value, what people read]. */
export function Choose<Value extends string>(props: {
  label: string;
  value: Value;
  options: readonly (readonly [Value, string])[];
  set: (value: Value) => void;
}) {
  return (
    <label className="inline">
      {props.label}{" "}
      <select value={props.value} onChange={(event) => props.set(event.target.value as Value)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
