"""The genealogy as one HTML file, with a little script that lights up an individual's ancestors and
descendants.
"""

from __future__ import annotations

from html import escape

from evo_aar.lineage.drawing import svg
from evo_aar.lineage.genealogy import Genealogy

_STYLE = """
body { margin: 12px; font: 13px system-ui, sans-serif; color: #1b1e22; background: #fff; }
h1 { font-size: 16px; margin: 0 0 2px; } p { margin: 0 0 8px; color: #5a6068; }
.scroll { overflow-x: auto; }
.edge { fill: none; stroke: #aab0b8; stroke-width: 1; opacity: .45; }
.edge.other { stroke: #d55e00; } .edge.leads { stroke-width: 1.6; opacity: .95; } .edge.first.leads { stroke: #4a5058; }
.move { fill: none; stroke: #0072b2; stroke-width: 1.4; stroke-dasharray: 5 4; }
.node { cursor: pointer; }
svg.lit .node, svg.lit [data-move] { opacity: .18; } svg.lit .edge[data-from] { opacity: .06; }
svg.lit .node.on, svg.lit [data-move].on { opacity: 1; } svg.lit .edge.on { opacity: 1; stroke-width: 2; }
#told { position: sticky; bottom: 0; min-height: 3.6em; padding: 8px; background: #fff; border-top: 1px solid #d5d9de; white-space: pre-line; }
"""  # noqa: E501

# Hovering shows, a click keeps what is shown until the next click.
_SCRIPT = """
const drawing = document.querySelector('svg'), told = document.getElementById('told'), hint = told.textContent;
const nodes = new Map([...drawing.querySelectorAll('.node')].map(n => [n.dataset.id, n]));
const edges = [...drawing.querySelectorAll('.edge[data-from]')], moves = [...drawing.querySelectorAll('[data-move]')];
let kept = null;
function reach(start, from, to) {
  const found = new Set([start]), open = [start];
  while (open.length) { const at = open.pop();
    for (const e of edges) if (e.dataset[from] === at && !found.has(e.dataset[to])) { found.add(e.dataset[to]); open.push(e.dataset[to]); } }
  return found;
}
function show(id) {
  const up = id ? reach(id, 'to', 'from') : new Set(), down = id ? reach(id, 'from', 'to') : new Set();
  drawing.classList.toggle('lit', !!id);
  nodes.forEach((n, key) => n.classList.toggle('on', up.has(key) || down.has(key)));
  edges.forEach(e => e.classList.toggle('on', (up.has(e.dataset.from) && up.has(e.dataset.to)) || (down.has(e.dataset.from) && down.has(e.dataset.to))));
  moves.forEach(m => m.classList.toggle('on', up.has(m.dataset.move) || down.has(m.dataset.move)));
  told.textContent = id ? nodes.get(id).querySelector('title').textContent + `\\n${up.size - 1} ancestors, ${down.size - 1} descendants` : hint;
}
nodes.forEach((n, id) => {
  n.addEventListener('mouseenter', () => kept || show(id));
  n.addEventListener('mouseleave', () => kept || show(null));
  n.addEventListener('click', event => { event.stopPropagation(); kept = kept === id ? null : id; show(kept); });
});
document.addEventListener('click', () => { kept = null; show(null); });
"""  # noqa: E501


def lineage_page(genealogy: Genealogy, name: str) -> str:
    """A whole HTML page without references to anything outside of it; without scripts it is a
    plain drawing.
    """
    last = genealogy.generations[-1].number
    counts = f"{len(genealogy.nodes)} individuals, {len(genealogy.islands)} islands, generations 0 to {last}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}: genealogy</title>
<style>{_STYLE}</style></head><body>
<h1>{escape(name)}</h1><p>{counts}</p>
<div class="scroll">{svg(genealogy)}</div>
<div id="told">Point at an individual for its idea, ancestors and descendants; click to keep them.</div>
<script>{_SCRIPT}</script></body></html>
"""
