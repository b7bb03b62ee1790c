// Asking the daemon, again and again while somebody looks.

// Milliseconds: from look to look, of a page that is not seen, and for an answer.
const HIDDEN = 30000;
const PATIENCE = 10000;

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

// Ask for what ``path()`` says every so many milliseconds; ``seen`` gets each answer, ``failed`` why
// there was none. One request at a time; a page that comes to the front asks at once.
export function watch(path, every, seen, failed) {
  let timer = 0;
  let asking = false;
  async function look() {
    clearTimeout(timer);
    if (asking) return;
    asking = true;
    let answer = null;
    try {
      answer = await ask(path());
    } catch (error) {
      failed(error);
    }
    asking = false;
    timer = setTimeout(look, document.hidden ? HIDDEN : every);
    if (answer) seen(answer);
  }
  document.addEventListener("visibilitychange", () => document.hidden || look());
  look();
}
