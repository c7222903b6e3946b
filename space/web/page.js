// What the page does in the browser, without asking the server: frames, sliders, copies, the last
// answers. gradio calls `marque.*` once for each part (space/page.py); parts are drawn anew by the
// server, so that everything listens on the part itself.
window.marque = ((said) => {
  const KEPT = "marque-last-answers"; // in localStorage
  const MOST = 12;

  const language = () => (navigator.language || "en").toLowerCase().split("-")[0];
  if (language() === "ar") document.documentElement.dir = "rtl";
  const clamp = (value) => Math.min(1, Math.max(0, value));
  const shownPhoto = () => document.querySelector(".mq-figure img");

  // The photo: tap a numbered car, or drag a frame.
  function figure(element, trigger) {
    let start = null;
    const part = () => element.querySelector(".mq-figure");
    const place = (event) => {
      const area = element.querySelector(".mq-stage").getBoundingClientRect();
      return [
        clamp((event.clientX - area.left) / area.width),
        clamp((event.clientY - area.top) / area.height),
      ];
    };
    const frame = (a, b) => [
      Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1]),
    ];
    let box = null; // the frame that is drawn
    const show = () => {
      const drawn = element.querySelector(".mq-frame.drawing");
      drawn.hidden = box === null;
      if (!box) return;
      const [left, upper, right, lower] = box.map((side) => 100 * side);
      drawn.style.cssText = `left:${left}%;top:${upper}%;width:${right - left}%;height:${lower - upper}%`;
    };
    const done = () => {
      const [left, upper, right, lower] = box;
      draw(false);
      if (right - left > 0.02 && lower - upper > 0.02) trigger("select", { box });
      box = null;
      show();
    };
    const draw = (on) => {
      part().classList.toggle("drawing", on);
      element.querySelector('[data-do="draw"]').setAttribute("aria-pressed", on);
      element.querySelector(".mq-drawhint").hidden = !on;
    };
    element.addEventListener("click", (event) => {
      const car = event.target.closest("[data-car]");
      if (car) trigger("select", { car: Number(car.dataset.car) });
      if (event.target.closest('[data-do="another"]')) trigger("clear");
      if (event.target.closest('[data-do="draw"]')) draw(!part().classList.contains("drawing"));
    });
    element.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".drawing .mq-stage")) return;
      event.preventDefault();
      event.target.setPointerCapture?.(event.pointerId);
      start = place(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (!start) return;
      box = frame(start, place(event));
      show();
    });
    element.addEventListener("pointerup", (event) => {
      if (!start) return;
      box = frame(start, place(event));
      start = null;
      done();
    });
    // Without a pointer: arrows move the frame, with Shift its lower right corner; Enter names it.
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    element.addEventListener("keydown", (event) => {
      if (!event.target.closest('[data-do="draw"]') || !part().classList.contains("drawing")) return;
      if (event.key === "Enter" && box) done();
      else if (event.key in arrows) {
        const [x, y] = arrows[event.key].map((step) => step * 0.05);
        const [left, upper, right, lower] = box || [0.25, 0.25, 0.75, 0.75];
        const first = event.shiftKey ? [left, upper] : [clamp(left + x), clamp(upper + y)];
        box = frame(first, [clamp(right + x), clamp(lower + y)]);
        show();
      } else return;
      event.preventDefault();
    });
  }

  // The heat map: sliders, and the picture as it is shown.
  function heat(element) {
    element.addEventListener("input", (event) => {
      const name = event.target.dataset?.sets;
      if (name) element.querySelector(".mq-heat").style.setProperty(name, `${event.target.value}%`);
    });
    element.addEventListener("click", (event) => {
      if (!event.target.closest('[data-do="save-heat"]')) return;
      const [photo, layer] = element.querySelectorAll(".mq-stage img");
      const style = element.querySelector(".mq-heat").style;
      const share = (name, otherwise) => parseFloat(style.getPropertyValue(name) || otherwise) / 100;
      const canvas = canvasOf(photo);
      const context = canvas.getContext("2d");
      const cut = share("--cut", "0") * canvas.width;
      context.beginPath();
      context.rect(cut, 0, canvas.width - cut, canvas.height);
      context.clip();
      context.globalAlpha = share("--opacity", "100");
      context.drawImage(layer, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => download(blob, "heat-map.png"));
    });
  }

  // The answer: copy it, send it on, keep it.
  function answer(element, watch) {
    const sentence = () => element.querySelector(".mq-answer")?.dataset.sentence;
    element.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-do]");
      if (!button) return;
      const does = button.dataset.do;
      if (does === "copy" && (await copied(sentence()))) button.textContent = button.dataset.done;
      if (does === "save") picture(sentence(), (blob) => download(blob, "car.png"));
      if (does === "share") {
        picture(sentence(), (blob) => {
          const files = [new File([blob], "car.png", { type: "image/png" })];
          const data = navigator.canShare?.({ files }) ? { files, text: sentence() } : { text: sentence() };
          navigator.share(data).catch(() => {}); // whoever changes their mind is not told off
        });
      }
    });
    watch("value", () => {
      const share = element.querySelector('[data-do="share"]');
      if (share && navigator.share) share.hidden = false;
      if (sentence()) remember(sentence());
    });
  }

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { // a page without https
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  function canvasOf(image, side = Infinity, below = 0) {
    const scale = Math.min(1, side / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(image.naturalWidth * scale);
    canvas.height = Math.round(image.naturalHeight * scale) + below;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height - below);
    return canvas;
  }

  // The photo with its frame and, beneath, the answer.
  function picture(text, done) {
    const image = shownPhoto();
    if (!image) return;
    const size = Math.max(18, Math.round(image.naturalWidth / 28));
    const canvas = canvasOf(image, Infinity, 2 * size);
    const context = canvas.getContext("2d");
    const frame = document.querySelector('.mq-frame[aria-pressed="true"], .mq-frame.drawn');
    if (frame) {
      const [width, height] = [canvas.width / 100, (canvas.height - 2 * size) / 100];
      const at = (side) => parseFloat(frame.style[side]);
      context.lineWidth = Math.max(3, canvas.width / 250);
      context.strokeStyle = "#60a5fa";
      context.strokeRect(at("left") * width, at("top") * height, at("width") * width, at("height") * height);
    }
    context.fillStyle = "#111827";
    context.fillRect(0, canvas.height - 2 * size, canvas.width, 2 * size);
    context.fillStyle = "#fff";
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.fillText(text, size / 2, canvas.height - size, canvas.width - size);
    canvas.toBlob(done);
  }

  function download(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // The last answers, in this browser alone.
  function kept() {
    try {
      return JSON.parse(localStorage.getItem(KEPT)) || [];
    } catch {
      return [];
    }
  }

  function keep(answers) {
    try {
      localStorage.setItem(KEPT, JSON.stringify(answers));
    } catch {} // a browser that keeps nothing
    list();
  }

  function remember(text, patience = 20) {
    const image = shownPhoto();
    if (!image) { // gradio may show the answer before the photo
      if (patience) setTimeout(() => remember(text, patience - 1), 100);
      return;
    }
    image.decode().then(() => {
      const photo = canvasOf(image, 160).toDataURL("image/jpeg", 0.7);
      const others = kept().filter((one) => one.text !== text || one.photo !== photo);
      keep([{ text, photo }, ...others].slice(0, MOST));
    }).catch(() => {});
  }

  function list() {
    const part = document.querySelector(".mq-history");
    if (!part) return;
    const answers = kept();
    part.querySelector(".mq-none").hidden = answers.length > 0;
    part.querySelector('[data-do="forget"]').hidden = answers.length === 0;
    part.querySelector("ul").replaceChildren(...answers.map((one) => {
      const item = document.createElement("li");
      const image = Object.assign(document.createElement("img"), { alt: "" });
      if (String(one.photo).startsWith("data:image/jpeg")) image.src = one.photo;
      const said = Object.assign(document.createElement("bdi"), { textContent: String(one.text) });
      item.append(image, said);
      return item;
    }));
  }

  function history(element) {
    const words = said[language()] || said.en;
    element.querySelectorAll("[data-say]").forEach((part) => {
      part.textContent = words[part.dataset.say];
    });
    list();
    element.addEventListener("click", (event) => {
      if (event.target.closest('[data-do="forget"]')) keep([]);
    });
  }

  // Many photos: which rows are shown, and corrections by hand.
  function table(element, trigger) {
    let checking = false;
    const apply = () => {
      element.querySelector(".mq-table")?.classList.toggle("checking", checking);
      element.querySelectorAll(".mq-filter button").forEach((button) => {
        button.setAttribute("aria-pressed", (button.dataset.filter === "check") === checking);
      });
    };
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-filter]");
      if (!button) return;
      checking = button.dataset.filter === "check";
      apply();
    });
    element.addEventListener("change", (event) => {
      const row = event.target.dataset?.row;
      if (row !== undefined) trigger("edit", { row: Number(row), text: event.target.value });
    });
  }

  // What the model knows: a search.
  function known(element) {
    element.addEventListener("input", (event) => {
      if (event.target.type !== "search") return;
      const wanted = event.target.value.toLowerCase();
      element.querySelectorAll(".mq-known li").forEach((item) => {
        item.hidden = !item.textContent.toLowerCase().includes(wanted);
      });
    });
  }

  return { figure, heat, answer, history, table, known };
})(MARQUE_STRINGS);
