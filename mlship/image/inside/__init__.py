"""Programs that run in the image build, with the image's own Python: standard library only, independent of mlship."""
