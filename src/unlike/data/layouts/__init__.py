"""How people lay out images and labels: folders of every layout of the field, manifests, label files."""
