"use strict";
// Voxels run right, anterior, superior. Every page axis runs against its patient axis, which is the
// radiological convention. Pictures differ in their number of voxels but fill the same box, so that
// a place is a fraction of the box.
(() => {
  const PLANES = {
    axial: { across: 2, horizontal: 0, vertical: 1 },
    coronal: { across: 1, horizontal: 0, vertical: 2 },
    sagittal: { across: 0, horizontal: 1, vertical: 2 },
  };
  const LONGEST = 640;
  const MASK = [255, 90, 60];
  const element = (id) => document.getElementById(id);
  const scene = JSON.parse(element("scene").textContent);
  const state = {
    image: null, mask: true, contribution: "", opacity: 0.3, crosshair: true, invert: false,
    at: [0, 0, 0],
  };

  const decode = async (picture) => {
    const text = atob(picture.data);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const voxels = new Uint8Array(await new Response(stream).arrayBuffer());
    const [width, height, depth] = picture.shape;
    if (voxels.length !== width * height * depth) throw new Error("a picture is incomplete");
    for (let row = 0; row < voxels.length; row += width) {
      for (let i = row + 1; i < row + width; i += 1) voxels[i] = (voxels[i] + voxels[i - 1]) & 255;
    }
    return { shape: picture.shape, voxels };
  };

  const decodeAll = async (pictures) => {
    const names = Object.keys(pictures);
    const done = await Promise.all(names.map((name) => decode(pictures[name])));
    return Object.fromEntries(names.map((name, i) => [name, done[i]]));
  };

  // One slice as rows of the page, from the place `state.at` across the plane.
  const cut = (picture, plane) => {
    const { shape, voxels } = picture;
    const step = [1, shape[0], shape[0] * shape[1]];
    const width = shape[plane.horizontal];
    const height = shape[plane.vertical];
    const slice = Math.min(shape[plane.across] - 1, Math.floor(state.at[plane.across] * shape[plane.across]));
    const values = new Uint8Array(width * height);
    const start = slice * step[plane.across];
    for (let y = 0; y < height; y += 1) {
      let from = start + (height - 1 - y) * step[plane.vertical] + (width - 1) * step[plane.horizontal];
      for (let x = 0; x < width; x += 1) {
        values[y * width + x] = voxels[from];
        from -= step[plane.horizontal];
      }
    }
    return { width, height, values };
  };

  const painted = (piece, colour) => {
    const image = new ImageData(piece.width, piece.height);
    for (let i = 0; i < piece.values.length; i += 1) colour(piece.values[i], image.data, 4 * i);
    const sheet = document.createElement("canvas");
    sheet.width = piece.width;
    sheet.height = piece.height;
    sheet.getContext("2d").putImageData(image, 0, 0);
    return sheet;
  };

  const gray = (value, data, at) => {
    const shown = state.invert ? 255 - value : value;
    data[at] = shown;
    data[at + 1] = shown;
    data[at + 2] = shown;
    data[at + 3] = 255;
  };

  const fill = (value, data, at) => {
    [data[at], data[at + 1], data[at + 2]] = MASK;
    data[at + 3] = value ? Math.round(255 * state.opacity) : 0;
  };

  const colours = (() => {
    const stops = scene.colours.map((text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));
    return Array.from({ length: 256 }, (_, value) => {
      const place = (value / 255) * (stops.length - 1);
      const low = Math.min(Math.floor(place), stops.length - 2);
      return stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * (place - low)));
    });
  })();

  const heat = (value, data, at) => {
    [data[at], data[at + 1], data[at + 2]] = colours[value];
    data[at + 3] = Math.round(255 * state.opacity);
  };

  // The border between voxels inside and outside, exactly along their faces.
  const outline = (context, piece, width, height) => {
    const { values } = piece;
    const inside = (x, y) => x >= 0 && y >= 0 && x < piece.width && y < piece.height && values[y * piece.width + x] > 0;
    const [sx, sy] = [width / piece.width, height / piece.height];
    context.beginPath();
    for (let y = 0; y <= piece.height; y += 1) {
      for (let x = 0; x <= piece.width; x += 1) {
        const here = inside(x, y);
        if (here !== inside(x, y - 1)) { context.moveTo(x * sx, y * sy); context.lineTo((x + 1) * sx, y * sy); }
        if (here !== inside(x - 1, y)) { context.moveTo(x * sx, y * sy); context.lineTo(x * sx, (y + 1) * sy); }
      }
    }
    context.strokeStyle = `rgb(${MASK.join(",")})`;
    context.lineWidth = 1.5;
    context.stroke();
  };

  const cross = (context, plane, width, height) => {
    const [x, y] = [(1 - state.at[plane.horizontal]) * width, (1 - state.at[plane.vertical]) * height];
    const gap = 14;
    context.beginPath();
    context.moveTo(0, y); context.lineTo(x - gap, y); context.moveTo(x + gap, y); context.lineTo(width, y);
    context.moveTo(x, 0); context.lineTo(x, y - gap); context.moveTo(x, y + gap); context.lineTo(x, height);
    context.strokeStyle = "rgba(120, 200, 255, 0.75)";
    context.lineWidth = 1;
    context.stroke();
  };

  const start = (images, mask, contributions) => {
    const all = [...Object.values(images), mask];
    const counts = [0, 1, 2].map((axis) => Math.max(...all.map((picture) => picture.shape[axis])));
    const scale = LONGEST / Math.max(...scene.size_mm);
    const views = Object.entries(PLANES).map(([name, plane]) => {
      const figure = element(name);
      const canvas = figure.querySelector("canvas");
      canvas.width = Math.max(1, Math.round(scene.size_mm[plane.horizontal] * scale));
      canvas.height = Math.max(1, Math.round(scene.size_mm[plane.vertical] * scale));
      const slider = element(`${name}-slice`);
      slider.max = counts[plane.across] - 1;
      return { name, plane, canvas, slider, count: figure.querySelector(".count") };
    });

    const draw = () => {
      for (const { plane, canvas, slider, count } of views) {
        const context = canvas.getContext("2d");
        const { width, height } = canvas;
        context.imageSmoothingEnabled = true;
        context.imageSmoothingQuality = "high";
        context.fillStyle = "#000";
        context.fillRect(0, 0, width, height);
        context.drawImage(painted(cut(images[state.image], plane), gray), 0, 0, width, height);
        if (state.contribution) {
          context.drawImage(painted(cut(contributions[state.contribution], plane), heat), 0, 0, width, height);
        }
        if (state.mask) {
          const piece = cut(mask, plane);
          context.imageSmoothingEnabled = false;
          if (!state.contribution) context.drawImage(painted(piece, fill), 0, 0, width, height);
          outline(context, piece, width, height);
        }
        if (state.crosshair) cross(context, plane, width, height);
        const slice = Math.floor(state.at[plane.across] * counts[plane.across]);
        slider.value = slice;
        count.textContent = `${slice + 1} of ${counts[plane.across]}`;
      }
      element("window").textContent = `Black to white: ${scene.windows[state.image]}. `;
    };

    let waiting = false;
    const update = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(); });
    };
    const go = (axis, slice) => {
      const kept = Math.min(counts[axis] - 1, Math.max(0, slice));
      state.at[axis] = (kept + 0.5) / counts[axis];
      update();
    };
    const center = () => {
      state.at = scene.center.map((voxel, axis) => (voxel + 0.5) / mask.shape[axis]);
      update();
    };

    for (const { plane, canvas, slider } of views) {
      const axis = plane.across;
      const slice = () => Math.floor(state.at[axis] * counts[axis]);
      slider.addEventListener("input", () => go(axis, Number(slider.value)));
      canvas.addEventListener("wheel", (event) => {
        if (event.deltaY === 0) return;
        event.preventDefault();
        go(axis, slice() + (event.deltaY > 0 ? -1 : 1));
      }, { passive: false });
      const moves = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
      canvas.addEventListener("keydown", (event) => {
        if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in moves)) return;
        event.preventDefault();
        go(axis, slice() + moves[event.key]);
      });
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        const inside = (fraction) => Math.min(0.9999, Math.max(0, fraction));
        state.at[plane.horizontal] = inside(1 - (event.clientX - box.left) / box.width);
        state.at[plane.vertical] = inside(1 - (event.clientY - box.top) / box.height);
        update();
      });
    }

    const picker = element("image");
    state.image = [...picker.options].find((option) => !option.disabled).value;
    picker.value = state.image;
    picker.addEventListener("change", () => { state.image = picker.value; update(); });
    for (const name of ["mask", "crosshair", "invert"]) {
      const box = element(name);
      box.checked = state[name];
      box.addEventListener("change", () => { state[name] = box.checked; update(); });
    }
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("select, input[type='text']");
      if (event.key.toLowerCase() !== "m" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      element("mask").click();
    });
    const opacity = element("opacity");
    opacity.value = 100 * state.opacity;
    opacity.addEventListener("input", () => {
      state.opacity = Number(opacity.value) / 100;
      element("opacity-value").textContent = `${opacity.value} %`;
      update();
    });
    const weights = element("contribution");
    if (weights) {
      weights.value = "";
      weights.addEventListener("change", () => {
        state.contribution = weights.value;
        element("scale").hidden = !weights.value;
        update();
      });
    }
    element("center").addEventListener("click", center);
    element("viewer").hidden = false;
    center();
    draw();
    document.documentElement.dataset.ready = "yes";
  };

  const fail = (reason) => {
    const note = element("failure");
    note.textContent = `The pictures cannot be shown: ${reason}`;
    note.hidden = false;
    document.documentElement.dataset.ready = "failed";
  };

  if (typeof DecompressionStream === "undefined") {
    fail("this browser is too old; Chrome 80, Firefox 113 or Safari 16.4 and later can.");
    return;
  }
  Promise.all([decodeAll(scene.images), decode(scene.mask), decodeAll(scene.contributions)])
    .then(([images, mask, contributions]) => start(images, mask, contributions))
    .catch((error) => fail(error.message));
})();
