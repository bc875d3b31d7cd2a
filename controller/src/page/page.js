// Replaces what has changed, when the controller says that something has.
'use strict';
(() => {
  const SILENCE = 45000;
  const news = document.getElementById('news');
  let heard = Date.now();
  let busy = false;
  let again = false;

  const outages = (page) =>
    new Map([...page.querySelectorAll('[data-outage]')].map((one) => [one.dataset.outage, one.dataset.label]));

  function announce(before, after) {
    const fresh = [...after].filter(([id]) => !before.has(id));
    const over = [...before].filter(([id]) => !after.has(id));
    const said = [];
    if (fresh.length) said.push(`${fresh.length} new: ${fresh[0][1]}`);
    if (over.length) said.push(`${over.length} over: ${over[0][1]}`);
    if (said.length) news.textContent = said.join('. ');
  }

  function replace(old, next) {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const href = focused && focused.getAttribute('href');
    old.replaceWith(next);
    if (href) next.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus();
  }

  function show(page) {
    const before = outages(document);
    document.body.className = page.body.className;
    document.body.dataset.version = page.body.dataset.version;
    document.title = page.title;
    for (const next of [...page.querySelectorAll('[data-swap]')]) {
      const old = document.getElementById(next.id);
      if (old && old.outerHTML !== next.outerHTML) replace(old, document.adoptNode(next));
    }
    announce(before, outages(document));
  }

  async function refresh() {
    again = busy;
    if (busy) return;
    busy = true;
    try {
      const answer = await fetch(location.href);
      show(new DOMParser().parseFromString(await answer.text(), 'text/html'));
    } catch {
      // The stream says when the controller is back.
    }
    busy = false;
    if (again) refresh();
  }

  const stream = new EventSource('/events');
  const hear = () => { heard = Date.now(); };
  stream.addEventListener('heartbeat', hear);
  stream.addEventListener('update', (event) => {
    hear();
    if (event.data !== document.body.dataset.version) refresh();
  });
  // Ages grow by the minute; a stream that was refused is not opened again.
  let seconds = 0;
  setInterval(() => {
    seconds += 5;
    if (seconds % (stream.readyState === EventSource.CLOSED ? 15 : 60) === 0) refresh();
    else if (stream.readyState !== EventSource.CLOSED && Date.now() - heard > SILENCE) {
      document.body.className = 'stale';
      news.textContent = 'The controller does not answer: nothing here is current.';
    }
  }, 5000);
})();
