/** A typed publish/subscribe for records with a `type`. Listeners are called in order, at once, in the publisher's turn. */
export class EventStream<E extends { readonly type: string }> {
  readonly #listeners = new Set<(event: E) => void>();

  /** Hears every event. Returns the way to stop hearing. */
  subscribe(listener: (event: E) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Hears the events of one type. */
  on<T extends E['type']>(type: T, listener: (event: Extract<E, { type: T }>) => void): () => void {
    return this.subscribe((event) => {
      if (event.type === type) listener(event as Extract<E, { type: T }>); // checked on the line itself
    });
  }

  publish(event: E): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}
