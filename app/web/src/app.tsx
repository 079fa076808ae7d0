import { lazy, Suspense, useEffect, useRef } from "react";
import { Link, Route, Switch, useLocation } from "wouter";
import { Boundary } from "./parts/boundary";
import { Waiting } from "./parts/common";
import { KeyEntry } from "./parts/key";
import { Theme } from "./parts/theme";
import { HomePage } from "./pages/home";

const ModelPage = lazy(() => import("./pages/model"));
const JobPage = lazy(() => import("./pages/job"));
const JobsPage = lazy(() => import("./pages/jobs"));
const ComparePage = lazy(() => import("./pages/compare"));
const SweepPage = lazy(() => import("./pages/sweep"));

export function App() {
  const [location] = useLocation();
  const main = useRef<HTMLElement>(null);
  const shown = useRef(location);
  // A new page is read from its beginning, by eyes and by screen readers.
  useEffect(() => {
    if (shown.current === location) return;
    shown.current = location;
    window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [location]);
  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to content
      </a>
      <header className="top">
        <Link href="/" className="brand">
          <img src="./icon.svg" alt="" width="28" height="28" /> Secateur
        </Link>
        <nav aria-label="Main">
          <Link href="/">New</Link>
          <Link href="/jobs">Jobs</Link>
          <a href="./docs">API</a>
        </nav>
        <span className="tools">
          <KeyEntry />
          <Theme />
        </span>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <Boundary key={location}>
          <Suspense fallback={<Waiting>Loading</Waiting>}>
            <Switch>
              <Route path="/" component={HomePage} />
              <Route path="/models/:id">{({ id }) => <ModelPage key={id} id={id} />}</Route>
              <Route path="/jobs" component={JobsPage} />
              <Route path="/jobs/:id">{({ id }) => <JobPage key={id} id={id} />}</Route>
              <Route path="/compare/:ids">
                {({ ids }) => <ComparePage ids={decodeURIComponent(ids).split(",")} />}
              </Route>
              <Route path="/sweeps/:id">{({ id }) => <SweepPage key={id} id={id} />}</Route>
              <Route>
                <h1>There is nothing here</h1>
                <p>
                  <Link href="/">Start with a model</Link> or look at <Link href="/jobs">the jobs</Link>.
                </p>
              </Route>
            </Switch>
          </Suspense>
        </Boundary>
      </main>
    </>
  );
}
