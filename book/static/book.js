// The recorded interactive pictures: sliders and lists move a sheet of frames behind a window.
document.querySelectorAll(".frames").forEach((box) => {
  const inputs = [...box.querySelectorAll("input, select")];
  const stops = inputs.map((input) => input.options ?? JSON.parse(input.dataset.stops));
  const said = JSON.parse(box.dataset.said);
  const captions = JSON.parse(box.dataset.words);
  const columns = Number(box.dataset.columns);
  const image = box.querySelector("img");
  const words = box.querySelector(".words");
  const status = box.querySelector(".said");
  const show = () => {
    let frame = 0;
    inputs.forEach((input, i) => {
      const place = Number(input.value);
      frame = frame * stops[i].length + place;
      if (input.options) return; // a list shows its value itself
      input.setAttribute("aria-valuetext", stops[i][place]);
      input.parentElement.querySelector("output").textContent = stops[i][place];
    });
    image.style.left = `${-100 * (frame % columns)}%`;
    image.style.top = `${-100 * Math.floor(frame / columns)}%`;
    image.alt = said[frame];
    words.textContent = captions[frame];
    status.textContent = said[frame];
  };
  inputs.forEach((input) => input.addEventListener("input", show));
  box.querySelector(".controls").hidden = false;
  show();
});

// On a small screen a tap shows a picture in its own size, to be moved sideways; another one ends that.
document.querySelectorAll(".bd-content figure img, .frames .window").forEach((picture) => {
  const box = picture.closest("figure, .frames");
  const own = () => picture.naturalWidth || parseFloat(picture.style.maxWidth);
  const mark = () => {
    const small = picture.clientWidth < own() - 1;
    box.classList.toggle("can-grow", small || box.classList.contains("grown"));
  };
  picture.addEventListener("load", mark);
  window.addEventListener("resize", mark);
  picture.addEventListener("click", () => {
    if (box.classList.contains("can-grow")) box.classList.toggle("grown");
  });
  mark();
});

// The small playground of the front page: it is asked for when everything else is there and at rest, and
// becomes as high as it says. Its place is kept free, so that nothing below it jumps.
document.querySelectorAll(".live[data-small]").forEach((box) => {
  const place = box.querySelector(".live-frame");
  const put = () => {
    const frame = document.createElement("iframe");
    frame.src = box.dataset.small;
    frame.title = "A small playground: draw a digit and attack it";
    window.addEventListener("message", ({ source, data }) => {
      const height = Number(data?.advlearnHeight);
      if (source === frame.contentWindow && height > 0) frame.style.height = `${Math.min(height, 4000)}px`;
    });
    place.append(frame);
  };
  const whenSeen = () => new IntersectionObserver((entries, observer) => {
    if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
    observer.disconnect();
    (window.requestIdleCallback ?? setTimeout)(put);
  }, { rootMargin: "200px" }).observe(place);
  if (document.readyState === "complete") whenSeen();
  else window.addEventListener("load", whenSeen);
});
