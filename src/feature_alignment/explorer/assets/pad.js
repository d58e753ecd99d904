// A canvas to draw on and to drop image files onto. Its value is a data URL: of the drawing, or of a file's bytes, with
// ";name=NAME", which the server decodes, since it reads more formats than browsers do. A value that the server sets is
// painted.
const find = (name) => element.querySelector(`[name=${name}]`);
const canvas = element.querySelector("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const history = [];
let last = null, timer = null, sent = null;

function send(value) {
  sent = value;
  props.value = value;
  trigger("input");
}

function soon() { // while a line is being drawn
  timer ??= setTimeout(() => { timer = null; send(canvas.toDataURL()); }, 80);
}

function remember() {
  history.push(context.getImageData(0, 0, canvas.width, canvas.height));
  if (history.length > 20) history.shift();
}

function fill() {
  context.fillStyle = props.background;
  context.fillRect(0, 0, canvas.width, canvas.height);
}

function paint(url) {
  const picture = new Image();
  picture.onload = () => {
    fill();
    context.imageSmoothingEnabled = picture.width >= canvas.width;
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  };
  picture.src = url;
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}

function stroke(to) {
  Object.assign(context, { strokeStyle: find("ink").value, lineWidth: find("brush").value, lineCap: "round" });
  context.beginPath();
  context.moveTo(...last);
  context.lineTo(...to);
  context.stroke();
  last = to;
  soon();
}

function open(file) {
  if (file.size > props.most_bytes) {
    element.querySelector(".fa-hint").textContent = `${file.name}: larger than ${props.most_bytes / 1e6} MB`;
    return;
  }
  const reader = new FileReader();
  reader.onload = () => {
    const [, content = ""] = String(reader.result).split(";base64,");
    remember();
    send(`data:${file.type.split(";")[0]};name=${encodeURIComponent(file.name)};base64,${content}`);
  };
  reader.onerror = () => { element.querySelector(".fa-hint").textContent = `${file.name}: cannot be read`; };
  reader.readAsDataURL(file);
}

canvas.addEventListener("pointerdown", (event) => {
  remember();
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  stroke([last[0] + 0.01, last[1]]);
});
canvas.addEventListener("pointermove", (event) => last && stroke(place(event)));
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });

find("clear").addEventListener("click", () => { remember(); fill(); send(""); });
find("undo").addEventListener("click", () => {
  if (history.length) { context.putImageData(history.pop(), 0, 0); soon(); }
});
find("open").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", (event) => {
  if (event.target.files.length) open(event.target.files[0]);
  event.target.value = "";
});
for (const over of ["dragenter", "dragover"]) {
  element.addEventListener(over, (event) => { event.preventDefault(); canvas.classList.add("fa-over"); });
}
for (const end of ["dragleave", "drop"]) element.addEventListener(end, () => canvas.classList.remove("fa-over"));
element.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});
// A file dropped beside the canvas must not replace the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());

watch("value", () => { if (props.value && props.value !== sent) { sent = props.value; paint(sent); } });
fill();
if (props.value) paint(sent = props.value);
canvas.dataset.ready = "yes";
