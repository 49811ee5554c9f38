// Shapley values by band of one or more models in nats, with a zero line and intervals. A band whose
// interval includes 0, or that has none, gets no bar.
function profileChart(models) {
  const [width, height, left, bottom, top] = [560, 230, 52, 40, 12];
  const bands = models.map((model) => model.bands.map(([value, low, high]) =>
    ({ value, low: low ?? value, high: high ?? value, excludesZero: low > 0 || high < 0 })));
  const n = bands[0].length;
  const most = Math.max(0, ...bands.flat().map((band) => band.high));
  const least = Math.min(0, ...bands.flat().map((band) => band.low));
  const step = (width - left - 8) / n;
  const y = (value) => top + (height - top - bottom) * (most - value) / (most - least || 1);
  const chart = draw("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img",
    "aria-label": `Shapley values by band in nats: ${models.map((m) => `${m.name} ${m.bands.map(([value]) => value).join(", ")}`).join("; ")}`,
  });
  for (const tick of [...(y(least) - y(0) > 14 ? [least] : []), 0, most]) {  // its text must not lie on that of 0
    chart.append(draw("path", { class: "rule", d: `M${left} ${y(tick)}H${width - 8}` }),
      draw("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, (Math.abs(tick) < 0.005 ? 0 : tick).toFixed(2)));
  }
  for (let k = 0; k < n; k += 1) {
    chart.append(draw("text", { x: left + step * (k + 0.5), y: height - bottom + 18, "text-anchor": "middle" }, String(k)));
  }
  chart.append(draw("text", { x: left + step * n / 2, y: height - 4, "text-anchor": "middle" }, "band, lowest frequency at the left; Shapley value in nats"));
  models.forEach((model, m) => {
    const wide = step * 0.8 / models.length;
    const group = draw("g", { class: `f${model.mark}` });
    bands[m].forEach((band, k) => {
      const x = left + step * (k + 0.1) + wide * m;
      const middle = x + wide / 2;
      if (band.excludesZero) group.append(draw("rect", { x, y: y(Math.max(0, band.value)), width: Math.max(1, wide - 1), height: Math.abs(y(0) - y(band.value)) }));
      group.append(draw("path", { d: `M${middle} ${y(band.low)}V${y(band.high)}` }));
    });
    chart.append(group);
  });
  return chart;
}
