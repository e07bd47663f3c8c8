// The recorded interactive pictures: sliders move a sheet of frames behind a window.
document.querySelectorAll(".frames").forEach((box) => {
  const inputs = [...box.querySelectorAll("input")];
  const stops = inputs.map((input) => JSON.parse(input.dataset.stops));
  const said = JSON.parse(box.dataset.said);
  const columns = Number(box.dataset.columns);
  const image = box.querySelector("img");
  const words = box.querySelector(".said");
  const show = () => {
    let frame = 0;
    inputs.forEach((input, i) => {
      const place = Number(input.value);
      frame = frame * stops[i].length + place;
      input.setAttribute("aria-valuetext", stops[i][place]);
      input.parentElement.querySelector("output").textContent = stops[i][place];
    });
    image.style.left = `${-100 * (frame % columns)}%`;
    image.style.top = `${-100 * Math.floor(frame / columns)}%`;
    image.alt = said[frame];
    words.textContent = said[frame];
  };
  inputs.forEach((input) => input.addEventListener("input", show));
  box.querySelector(".controls").hidden = false;
  show();
});
