"""How figures look: in colours of Okabe and Ito, which differ for every kind of colour vision."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")   # which tell lines apart without colour
STYLE = {"font.size": 15, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
         "axes.spines.right": False, "lines.linewidth": 2.5, "lines.markersize": 9}


def look(number, linestyle="-"):
    """Colour, marker and kind of a figure's line of a number, for matplotlib."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)],
            "linestyle": linestyle}
