// The contrast of text that axe leaves undecided: it does not see an element's background where something lies over a part
// of it, such as the edge of a region that scrolls. Our pages have no pictures behind text, and no text over other text, so
// that the background is the nearest ancestor's that has one.

// Runs inside the page. Of each element that a selector finds: its ratio (1 to 21) and the least that WCAG 2.2 asks for,
// https://www.w3.org/TR/WCAG22/#contrast-minimum; null where a background is no plain colour.
export function contrastOf(selectors) {
  const LARGE = 24, LARGE_AND_BOLD = 18.66, BOLD = 700;

  const channels = (colour) => {
    const parts = colour.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
    return parts && { rgb: parts.slice(1, 4).map(Number), alpha: parts[4] === undefined ? 1 : Number(parts[4]) };
  };

  // https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((each) => each / 255).map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };

  const background = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const style = getComputedStyle(each), found = channels(style.backgroundColor);
      if (!found || style.backgroundImage !== "none" || style.opacity !== "1") return null;
      if (found.alpha === 1) return found.rgb;
      if (found.alpha > 0) return null;
    }
    return null;
  };

  return selectors.map((target) => {
    const element = document.querySelector(target), style = getComputedStyle(element);
    const size = parseFloat(style.fontSize), weight = Number(style.fontWeight);
    const least = size >= LARGE || (size >= LARGE_AND_BOLD && weight >= BOLD) ? 3 : 4.5;
    const behind = background(element), text = channels(style.color);
    if (!behind || !text || text.alpha !== 1) return { target, ratio: null, least };
    const [dark, light] = [luminance(behind), luminance(text.rgb)].sort((a, b) => a - b);
    return { target, ratio: (light + 0.05) / (dark + 0.05), least };
  });
}
