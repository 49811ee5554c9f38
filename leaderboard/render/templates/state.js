// What is shown of a table, as text in the page's address: #table?sort=-score&q=resnet&open=a,b
const emptyState = () => ({ sort: "", q: "", facets: {}, open: [], compare: [] });

function stateToText(state) {
  const parts = new URLSearchParams();
  if (state.sort) parts.set("sort", state.sort);
  if (state.q) parts.set("q", state.q);
  for (const [name, value] of Object.entries(state.facets)) if (value) parts.set(name, value);
  for (const name of ["open", "compare"]) if (state[name].length) parts.set(name, state[name].join(","));
  return parts.toString();
}

function textToState(text) {
  const state = emptyState();
  for (const [name, value] of new URLSearchParams(text)) {
    if (name === "sort" || name === "q") state[name] = value;
    else if (name === "open" || name === "compare") state[name] = value.split(",").filter(Boolean);
    else state.facets[name] = value;
  }
  return state;
}

// "#table", "#table/row" (one row open) and "#table?state"
function readAddress() {
  const address = location.hash.slice(1);
  const [place, query = ""] = address.split(/\?(.*)/s);
  const [id, row] = place.split("/"); // both of letters, digits, dots and hyphens
  const state = textToState(query);
  if (row) state.open = [row];
  return { id, row, state };
}

function writeAddress(id, state) {
  const text = stateToText(state);
  history.replaceState(null, "", `#${id}${text ? `?${text}` : ""}`);
}
