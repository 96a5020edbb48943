const NAME_KEY = "hubbub-name";
const NAME_PATTERN = "[^\\/\\p{Cc}]*[\\p{L}\\p{N}\\p{Emoji}][^\\/\\p{Cc}]*"; // so that it can be a part of a path

/** Build an element. Children that are strings become text, never HTML: this is where everything typed goes through. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** A round picture for a name: its first letter, on a colour that is always the same for that name. */
export function avatar(name) {
  const node = element("span", { className: "avatar", ariaHidden: "true" }, [...name][0].toUpperCase());
  node.style.setProperty("--hue", hue(name));
  return node;
}

export function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

/**
 * The name that this person goes by, asked for when it is not known yet.
 *
 * A tab remembers its own name over a reload; a new tab takes the name that was chosen last.
 */
export async function chosenName(question) {
  const known = sessionStorage.getItem(NAME_KEY) ?? localStorage.getItem(NAME_KEY);
  const name = known || (await askName(question));
  sessionStorage.setItem(NAME_KEY, name);

  const button = document.getElementById("me");
  button.replaceChildren(avatar(name), element("bdi", {}, name));
  button.setAttribute("aria-label", `You are ${name}. Change your name`);
  button.hidden = false;
  button.onclick = async () => {
    await askName(question, name);
    location.reload();
  };
  return name;
}

function askName(question, current = "") {
  const input = element("input", {
    id: "name", required: true, maxLength: 24, autocomplete: "nickname", value: current,
    pattern: NAME_PATTERN, title: "At least one letter or digit, and no slash",
  });
  const go = element("button", { className: "primary" }, "Go");
  const form = element("form", { method: "dialog" }, element("label", { htmlFor: "name" }, question), input, go);
  const dialog = element("dialog", { className: "card ask" }, form);
  document.body.append(dialog);
  dialog.showModal();
  input.select();

  return new Promise((resolve) => {
    let name = "";
    form.onsubmit = () => { name = input.value.trim(); };
    dialog.onclose = () => {
      if (!name && !current) return dialog.showModal(); // Escape, but a name is needed
      dialog.remove();
      if (!name) return;
      localStorage.setItem(NAME_KEY, name);
      sessionStorage.setItem(NAME_KEY, name);
      resolve(name);
    };
  });
}
