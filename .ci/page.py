"""Clicks through the status pages of a simulated incident in headless Chromium: python3 page.py BINARY [FOLDER].

A CoreDNS pod goes deaf and no disruption budget allows its eviction: named on its node, refused by the coordinator, given to a
person. Nothing is slept for: every step waits for what it wants to see. Without FOLDER nothing is written.
"""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

SCENARIO = "budget-never-allows"
PATIENCE = 90
# The pictures in docs: how much of the page, and how much smaller. NAMEWARD_PAGE_WHOLE=1: every page, whole.
PICTURES = {
    "status-node-wide-light.png": (1960, 0.75),
    "status-cluster-wide-dark.png": (1720, 0.75),
    "status-node-phone-light.png": (1500, 1),
    "status-cluster-phone-dark.png": (1500, 1),
}


class Failed(Exception):
    """Something is not as it should be."""


class Browser:
    """Chromium by its debugging protocol, over a pipe: no port, no library."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory()
        down_read, self.down = os.pipe()
        self.up, up_write = os.pipe()

        def pipes():
            # Fixed numbers, whatever these ends are: copied out of the way first.
            r, w = os.dup(down_read), os.dup(up_write)
            os.dup2(r, 3)
            os.dup2(w, 4)

        command = ["chromium", "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb", "--disable-background-networking",
                   f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(down_read)
        os.close(up_write)
        self.next, self.replies, self.events = 0, {}, []
        self.arrived = threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        rest = b""
        while chunk := os.read(self.up, 1 << 16):
            *messages, rest = (rest + chunk).split(b"\0")
            with self.arrived:
                for message in map(json.loads, messages):
                    if "id" in message:
                        self.replies[message["id"]] = message
                    else:
                        self.events.append(message)
                self.arrived.notify_all()

    def call(self, method, session=None, **params):
        with self.arrived:
            self.next += 1
            number = self.next
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.down, json.dumps(message).encode() + b"\0")
        with self.arrived:
            if not self.arrived.wait_for(lambda: number in self.replies, PATIENCE):
                raise Failed(f"{method}: the browser does not answer")
            reply = self.replies.pop(number)
        if "error" in reply:
            raise Failed(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()


class Tab:
    """A page."""

    def __init__(self, browser, address, width=1200, height=900, dark=False, scripts=True):
        self.browser, self.address = browser, address
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        # Every tab counts as the one in front: what is hidden is not brought up to date.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.look(width, height, dark)
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def look(self, width, height=900, dark=False):
        self.width = width
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def ask(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise Failed(f"{expression}: {result['exceptionDetails']['exception'].get('description')}")
        return result["result"].get("value")

    def until(self, expression, what=None, patience=PATIENCE):
        end = time.monotonic() + patience
        while not (value := self.ask(f"((v) => v instanceof Node || v)({expression})")):
            if time.monotonic() > end:
                text = self.ask("document.body?.innerText.slice(0, 3000)")
                raise Failed(f"{text}\n\n{self.address}: never came: {what or expression}")
            time.sleep(0.1)
        return value

    def click(self, selector):
        x, y = self.ask(f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: "center"}});
            const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, code=0, text=None):
        more = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def picture(self, file, height, scale):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": self.width, "height": min(size["height"], height), "scale": scale}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))

    def complaints(self):
        """What the browser logged: errors of scripts, and what the page's own policy forbade."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"]["exception"].get("description", "an exception"))
            # That a fetch got no answer is what the last step is about.
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] != "network":
                found.append(event["params"]["entry"]["text"])
        return found


# Everything that is wider than the page, or covered by something that is not its own, and text that stands out too little.
LOOKS = r"""
(() => {
  const bad = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) bad.push(`the page is ${page.scrollWidth} wide, the window ${page.clientWidth}`);
  const inside = (e) => e.closest(".scroll, .spoken, .skip, svg");
  const shown = (e) => e.checkVisibility({ checkVisibilityCSS: true }) && e.getClientRects().length;
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255]; };
  for (const e of document.querySelectorAll(".caption")) if (e.getBoundingClientRect().right > page.clientWidth) bad.push("a caption is cut off");
  for (const e of document.querySelectorAll("tbody th")) if (e.getBoundingClientRect().width < 60) bad.push(`a narrow row header: ${e.textContent}`);
  for (const e of document.body.querySelectorAll("*")) {
    if (!shown(e)) continue;
    const name = `${e.tagName.toLowerCase()}.${e.className.baseVal ?? e.className} "${e.textContent.trim().slice(0, 40)}"`;
    const box = e.getBoundingClientRect();
    if (!inside(e) && (box.right > page.clientWidth + 1 || box.left < -1)) bad.push(`${name} is cut off`);
    if (!inside(e) && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible") bad.push(`${name} hides a part of itself`);
    const own = [...e.childNodes].filter((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own.length || e.closest("svg, .spoken, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) bad.push(`${name} has a contrast of ${contrast.toFixed(2)}`);
    // Does text overlap the text of another element?
    for (const text of own) {
      const range = document.createRange(); range.selectNodeContents(text);
      for (const r of range.getClientRects()) {
        if (r.width < 2 || r.bottom < 0 || r.top > innerHeight || e.closest(".scroll, .skip")) continue;
        const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
        if (top && !e.contains(top) && !top.contains(e)) bad.push(`${name} is covered by ${top.tagName} "${top.textContent.slice(0, 40)}"`);
      }
    }
  }
  return bad.slice(0, 12);
})()
"""

# Heading levels, labels, tables: what a screen reader goes by.
STRUCTURE = r"""
(() => {
  const bad = [];
  for (const wanted of ["header", "main", "footer", "nav", "h1"]) if (document.querySelectorAll(wanted).length !== 1) bad.push(`not one ${wanted}`);
  let last = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) { const n = +h.tagName[1]; if (n > last + 1) bad.push(`h${n} after h${last}: ${h.textContent}`); last = n; }
  for (const t of document.querySelectorAll("table")) {
    if (!t.caption) bad.push("a table without a caption");
    for (const th of t.querySelectorAll("th")) if (!th.scope) bad.push(`no scope: ${th.textContent}`);
  }
  for (const s of document.querySelectorAll("section")) if (!s.getAttribute("aria-label") && !s.getAttribute("aria-labelledby")) bad.push(`section ${s.id} has no name`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) bad.push("an id twice");
  return bad;
})()
"""


def check(tab, where):
    bad = tab.ask(LOOKS) + tab.ask(STRUCTURE) + tab.complaints()
    if bad:
        raise Failed(f"{where}: " + "; ".join(bad))


def fetch(address, method="GET", host=None):
    request = urllib.request.Request(address, method=method, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def simulate(binary):
    """Starts the cluster and gives back whose page is where."""
    process = subprocess.Popen([binary, "simulate", SCENARIO, "--watch"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    pages, lines = {}, []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"status page of (.+): (http://\S+)", line):
            pages[found[1]] = found[2]
        if len(pages) == 3:
            break
    else:
        raise Failed("the simulation ended early:\n" + "".join(lines))
    threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
    return process, pages


def click_through(browser, pages, simulation, folder):
    node, cluster = Tab(browser, pages["node1"]), Tab(browser, pages["the coordinator"])
    # Before anything fails, or as it begins: the page is there, and says so by itself when it changes.
    node.until("document.querySelector('#matrix td')", "the matrix")
    node.ask("window.unchanged = true")

    node.until("[...document.querySelectorAll('.cause')].some((c) => c.textContent === 'coredns-udp-dead')", "the verdict, by itself")
    node.until("document.querySelector('#headline').textContent.includes('failing')")
    node.until("document.title.startsWith('DNS failing')")
    if not node.ask("window.unchanged"):
        raise Failed("the page was loaded anew")
    node.until("document.querySelectorAll('#incidents .read dt').length > 1", "the evidence")
    node.until("document.querySelectorAll('.way .step.failing').length", "where the packet's path ends")
    node.until("document.querySelectorAll('#matrix .seen.failing').length > 1", "the failing paths")
    node.until("document.querySelectorAll('.bars .bad').length", "the minute in which it failed")

    # What a reader opens stays open, and keeps the focus, when the page is brought up to date.
    article = "#incidents article.open"
    node.click(f"{article} details[id$='-not'] summary")
    opened = node.until(f"document.querySelector('{article} details[id$=\"-not\"]').open && document.activeElement.id", "what it is not")
    node.ask("document.querySelector('#incidents').dataset.old = 'yes'")
    # Evidence that is confirmed is told again.
    node.until("!document.querySelector('#incidents').dataset.old", "the section brought up to date")
    if not node.ask(f"document.querySelector('{article} details[id$=\"-not\"]').open"):
        raise Failed("what was opened is closed again")
    if node.ask("document.activeElement.id") != opened:
        raise Failed("the focus is lost")

    # By keyboard alone: past the links, to the switch, and into the matrix.
    node.ask("document.activeElement.blur(), scrollTo(0, 0)")
    seen = []
    for _ in range(40):
        node.press("Tab", 9)
        seen.append(node.ask("document.activeElement.id || document.activeElement.className || document.activeElement.textContent"))
    for wanted in ("skip", "Matrix", "pause", "matrix-node"):
        if wanted not in seen:
            raise Failed(f"not reached by the Tab key: {wanted} in {seen}")
    node.ask("document.querySelector('#pause').focus()")
    node.press(" ", 32, " ")
    node.until("document.querySelector('#pause').getAttribute('aria-pressed') === 'true'", "stopped")
    node.press(" ", 32, " ")
    node.until("document.querySelector('#pause').getAttribute('aria-pressed') === 'false'", "updating again")
    tree = node.call("Accessibility.getFullAXTree")["nodes"]
    roles = {(n.get("role", {}).get("value"), n.get("name", {}).get("value", "")) for n in tree if not n.get("ignored")}
    for role, name in (("status", ""), ("main", ""), ("region", "Who gets answers from whom"), ("rowheader", "host"), ("button", "Stop updating")):
        if not any(r == role and name in n for r, n in roles):
            raise Failed(f"a screen reader finds no {role} {name}")

    # The coordinator: what was refused, and why.
    cluster.until("document.querySelector('#acts')?.textContent.includes('refused')", "the refusal")
    cluster.until("document.querySelector('#acts').textContent.includes('allow')", "its reason")
    cluster.until("[...document.querySelectorAll('.phase')].some((p) => p.textContent === 'needs a person')", "the person called")
    cluster.until("document.querySelectorAll('#matrix-cluster tbody tr').length >= 4", "two rows a node")

    node.click(f"{article} details[id$='-not'] summary")
    node.until(f"!document.querySelector('{article} details[id$=\"-not\"]').open", "closed again")
    for width in (1200, 390):
        for dark in (False, True):
            for tab, name in ((node, "node"), (cluster, "cluster")):
                tab.look(width, 900, dark)
                tab.until(f"innerWidth === {width}")
                tab.ask("document.activeElement.blur(), scrollTo(0, 0)")
                where = f"{name}, {width} px, {'dark' if dark else 'light'}"
                for step in range(12):
                    check(tab, where)
                    if not tab.ask("(() => { const y = scrollY; scrollBy({top: 800, behavior: 'instant'}); return scrollY !== y; })()"):
                        break
                tab.ask("scrollTo(0, 0)")
                shown = f"status-{name}-{'phone' if width == 390 else 'wide'}-{'dark' if dark else 'light'}.png"
                if folder and (os.environ.get("NAMEWARD_PAGE_WHOLE") or shown in PICTURES):
                    tab.picture(os.path.join(folder, shown), *PICTURES.get(shown, (6000, 1)))

    # Without scripts everything is there to read.
    plain = Tab(browser, pages["node1"], scripts=False)
    plain.until("document.querySelectorAll('#matrix td').length && document.querySelectorAll('.evidence, .read').length && !document.querySelector('#pause')")

    # It only reads, for this machine alone, and nobody else's page may show or read it.
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for page in ("", "status.json", "state"):
            status, _, _ = fetch(pages["node1"] + page, method)
            if status != 405:
                raise Failed(f"{method} /{page} is answered with {status}")
    for page in ("status.json", "state"):
        status, headers, _ = fetch(pages["node1"] + page, host="rebound.example")
        if status != 403:
            raise Failed(f"/{page} under another name is answered with {status}")
    status, headers, text = fetch(pages["node1"])
    if "default-src 'none'" not in headers["content-security-policy"] or headers["access-control-allow-origin"]:
        raise Failed("the policy is missing")
    shown = json.loads(fetch(pages["node1"] + "status.json")[2])
    if shown["health"] != "failing" or shown["incidents"][0]["cause"] != "coredns-udp-dead":
        raise Failed(f"the JSON says otherwise: {shown['headline']}")

    # When nobody answers any more, the page says that what it shows is old.
    node.look(1200)
    simulation.kill()
    node.until("document.querySelector('#live-state').textContent.startsWith('No answer since')", "that nobody answers")


def main():
    binary, folder = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    if folder:
        os.makedirs(folder, exist_ok=True)
    browser = Browser()
    simulation = None
    began = time.monotonic()
    try:
        browser.call("Browser.getVersion")
        simulation, pages = simulate(binary)
        click_through(browser, pages, simulation, folder)
    except Failed as failed:
        print(f"page: {failed}", file=sys.stderr)
        return 1
    finally:
        browser.close()
        if simulation:
            simulation.kill()
            simulation.wait()
    print(f"page: clicked through {SCENARIO} on an agent and a coordinator, light and dark, 1200 and 390 px, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
