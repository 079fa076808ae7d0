import { Component, type ReactNode } from "react";
import { Failure } from "./common";

/** A page that breaks says so, and the way to the others stays. */
export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <>
        <h1>This page broke</h1>
        <Failure error={this.state.error} />
        <p>
          Reload it; if it breaks again, everything it does is also at <a href="./docs">the HTTP API</a>.
        </p>
      </>
    );
  }
}
