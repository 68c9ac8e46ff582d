"""Look closer: from the curve down to one head, one step, one patch. The views under the Explore tab's curve.

To add a view: one line in `VIEWS` of `registry.py`. A view is a name, a card, and a pure function.

- The function takes an `Asked` (the captures in front, the definition, the rest of the query) and returns plain data,
  dense maps as `maps.encode` makes them. It is served by `lens/closer/<name>?capture=…&with=…&definition=…`; a
  `UserError` that it raises becomes `{"error": sentence}`, which the view's card shows.
- The card is a `ViewCard(name, …)` with a script of that name in `app/components`, which calls
  `lens.closer.add(name, element, { show, needs })`; see `components/closer.js` for what it may ask. It draws dense
  maps with `lens.heatmap` of `components/heatmap.js`, curves with `lens.stepCurve` of `components/curve.js`, pictures
  with `lens.patchMap` of `components/patchmap.js`; `lens.mapActions` makes files of whatever has a `piece`.
- `keys` are what the page's address may say of the view, such as `head=3.5`; `lens.closer.set({ head: "3.5" })` does.

Sources in `SOURCES` are data without a card, such as the curve of one pinned head.
"""
