// What is shown of a table, as text in the page's address: #table?sort=-score&q=resnet&view=all
const emptyState = () => ({ sort: "", q: "", view: "overview", threat: "", training: "", compare: [] });

function stateToText(state) {
  const parts = new URLSearchParams();
  for (const name of ["sort", "q", "threat", "training"]) if (state[name]) parts.set(name, state[name]);
  if (state.view !== "overview") parts.set("view", state.view);
  if (state.compare.length) parts.set("compare", state.compare.join(","));
  return parts.toString();
}

function textToState(text) {
  const state = emptyState();
  for (const [name, value] of new URLSearchParams(text)) {
    if (name === "compare") state.compare = value.split(",").filter(Boolean);
    else if (Object.hasOwn(state, name)) state[name] = value;
  }
  return state;
}

// "#table" and "#table?state"
function readAddress() {
  const [id, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { id, state: textToState(query) };
}

function writeAddress(id, state) {
  const text = stateToText(state);
  history.replaceState(null, "", `#${id}${text ? `?${text}` : ""}`);
}
