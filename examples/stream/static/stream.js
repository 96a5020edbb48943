import { element } from "../shared/page.js";
import { reconnecting, socketURL } from "../shared/reconnecting.js";

const ENDS = {
  end: "Finished",
  error: "The model has failed",
  abandoned: "Given up: nobody was listening",
  lost: "The server has forgotten this answer",
};

const $ = (id) => document.getElementById(id);
const id = new URLSearchParams(location.search).get("answer");

$("form").onsubmit = async (submitted) => {
  submitted.preventDefault();
  const body = JSON.stringify({ text: $("question").value, fails: $("fails").checked });
  try {
    const response = await fetch("answers", { method: "POST", headers: { "content-type": "application/json" }, body });
    if (response.ok) location.assign(`?answer=${(await response.json()).answer}`);
    else $("problem").textContent = `The server did not take it (${response.status}).`;
  } catch {
    $("problem").textContent = "The server cannot be reached. Nothing was asked.";
  }
};

if (id) follow(id);

/** Show an answer, from where this tab was when it was reloaded, or else from its beginning. */
function follow(answer) {
  const key = `hubbub-answer-${answer}`;
  const shown = JSON.parse(sessionStorage.getItem(key)) ?? { question: "", words: [], reloads: [], position: "", end: "" };
  const url = socketURL(`ws/${answer}`, {});
  const again = shown.position && !shown.end;

  function keep() {
    if (shown.position) url.searchParams.set("since", shown.position); // for the next time that it connects
    sessionStorage.setItem(key, JSON.stringify(shown));
    $("asked").textContent = shown.question || "…";
    $("words").textContent = shown.words.length;
    $("reloads").textContent = shown.reloads.length;
    $("position").textContent = shown.position || "–";
    $("text").ariaBusy = String(!shown.end);
    $("end").dataset.kind = shown.end;
    $("end").textContent = ENDS[shown.end] ?? "";
    document.title = `${shown.question || "Stream"} · Hubbub`;
  }

  const handlers = {
    question: ({ text }) => { shown.question = text; },
    item: ({ item }) => {
      shown.words.push(item);
      $("text").append(item);
    },
    end: () => { shown.end = "end"; },
    error: () => { shown.end = "error"; },
    abandoned: () => { shown.end = "abandoned"; },
  };

  if (again) shown.reloads.push(shown.words.length);
  for (let number = 0; number <= shown.words.length; number++) {
    for (const at of shown.reloads) if (at === number) $("text").append(element("span", { className: "break" }));
    $("text").append(shown.words[number] ?? "");
  }
  $("answer").hidden = false;
  $("hint").hidden = true;
  $("second").href = location.href;
  $("reload").onclick = () => location.reload();
  keep();

  reconnecting(url, {
    status: $("status"),
    onMessage: ({ epoch, offset, data, recovered }) => {
      shown.position = `${epoch}:${offset}`;
      if (data) {
        handlers[data.type]?.(data);
      } else if (!recovered || !shown.question) {
        shown.end ||= "lost"; // where we are comes after all that we have missed, so after the question too
      }
      keep();
    },
  });
}
