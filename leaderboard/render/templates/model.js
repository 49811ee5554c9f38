// The profile's chart, from the numbers of its table.
for (const figure of document.querySelectorAll("[data-bands]")) {
  figure.append(profileChart([{ name: figure.dataset.name, mark: 0, bands: JSON.parse(figure.dataset.bands) }]));
}
