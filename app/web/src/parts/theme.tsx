import { useEffect, useState } from "react";

const KEY = "secateur.theme";
const THEMES = ["system", "light", "dark"] as const;
type Choice = (typeof THEMES)[number];

export function Theme() {
  const [theme, setTheme] = useState<Choice>(
    () => (localStorage.getItem(KEY) as Choice | null) ?? "system",
  );
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem(KEY, theme);
  }, [theme]);
  return (
    <label>
      <span className="hidden">Colours</span>
      <select value={theme} onChange={(event) => setTheme(event.target.value as Choice)}>
        {THEMES.map((each) => (
          <option key={each} value={each}>
            {each === "system" ? "Auto" : each === "light" ? "Light" : "Dark"}
          </option>
        ))}
      </select>
    </label>
  );
}
